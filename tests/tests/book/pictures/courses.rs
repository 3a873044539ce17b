//! How things come to pass: the claim protocol from top to bottom, a lost node from left to right.

use konductor_tests::book::drawing::{By, Drawing};

/// The claim protocol as a sequence.
pub(crate) fn claim_protocol() -> String {
    let title = "The claim protocol, from top to bottom. The client creates a claim at the API server and watches it. The \
                 operator sees it, decides whose turn it is, and writes the grant with its term and a fencing token. The \
                 client reads the lock to confirm that the term is the lock's; then the command runs, and the claim is \
                 renewed every third of its TTL. When all processes of the command have ended, the client deletes the \
                 claim; the operator sees it and grants the next one.";
    let mut d = Drawing::new(760, 560, title);
    let (client, server, operator) = (130, 390, 640);
    for (x, name, by) in
        [(client, "client", "client"), (server, "API server", "faint"), (operator, "operator", "operator")]
    {
        d.rect((x - 70, 20), (140, 36), "box");
        d.centred((x, 38), &format!("strong {by}"), name);
        d.line(&[(x, 56), (x, 540)], "dashed");
    }
    let mut message = |y: i32, from: i32, to: i32, by: By, words: &str| {
        d.arrow(&[(from, y), (to, y)], by);
        d.centred((i32::midpoint(from, to), y - 14), &format!("small {}", by.class()), words);
    };
    message(92, client, server, By::Client, "creates a claim, and watches it");
    message(128, server, operator, By::Nature, "a claim");
    message(176, operator, server, By::Operator, "grants it: term, fencing token");
    message(212, server, client, By::Nature, "Granted");
    message(248, client, server, By::Client, "reads the lock: is this its term?");
    message(280, server, client, By::Nature, "it is: confirmed");
    message(340, client, server, By::Client, "renews, every third of the TTL");
    message(388, client, server, By::Client, "renews");
    message(450, client, server, By::Client, "deletes the claim: released");
    message(484, server, operator, By::Nature, "it is gone");
    message(524, operator, server, By::Operator, "grants the next one");
    d.rect((client - 9, 288), (18, 132), "good");
    d.centred((62, 354), "small", "the\ncommand\nruns");
    d.centred((62, 430), "small faint", "all of it\nhas ended");
    d.centred((operator + 56, 152), "small faint", "decides");
    d.svg()
}

/// What becomes of a claim whose node is lost.
pub(crate) fn lost_node() -> String {
    let title = "A node is lost, from left to right. The holder renews every third of its TTL; then nothing of it is heard. \
                 It counts from when it sent its last renewal: before the TTL has passed it sends TERM to its command, \
                 and at its fence deadline KILL. The operator counts a whole TTL from when it saw that renewal, by its \
                 own clock, which is later; then the claim is expired and the next one is granted. Between the two ends \
                 nothing runs.";
    let mut d = Drawing::new(760, 330, title);
    let at = |third: i32| 110 + third * 90;
    d.text((20, 86), "strong", "holder");
    d.text((20, 196), "strong", "operator");
    d.text((20, 276), "strong", "next one");

    // Sent at the ends of thirds 0, 1 and 2; the last of them that is answered is that of 2.
    let (lost, seen, term, fence, expiry) = (at(2) + 30, at(2) + 14, at(4), at(5) - 6, at(5) + 14);
    d.rect((at(0), 70), (fence - at(0), 24), "good");
    d.centred((at(1), 82), "small", "its command runs");
    d.rect((term, 70), (fence - term, 24), "box");
    d.centred((i32::midpoint(term, fence), 82), "small", "it ends");
    d.line(&[(110, 190), (720, 190)], "rule");
    for third in 0..3 {
        d.arrow(&[(at(third), 94), (at(third) + 14, 184)], By::Client);
    }
    d.centred((at(0) + 53, 140), "small client", "renews\nevery third\nof the TTL");
    for sent in [at(3), at(3) + 40] {
        d.line(&[(sent, 94), (sent + 6, 132)], "client");
        d.centred((sent + 7, 142), "small client", "×");
    }
    d.line(&[(lost, 28), (lost, 190)], "dashed");
    d.centred((lost + 4, 18), "small", "the node is cut off");
    // The holder's TTL is above, the operator's below.
    d.line(&[(at(2), 58), (fence, 58)], "client");
    d.centred((i32::midpoint(at(3), at(4)), 48), "small client", "the holder's time, from when it sent");
    d.line(&[(term, 62), (term, 102)], "client");
    d.centred((term, 112), "small client", "TERM");
    d.line(&[(fence, 54), (fence, 102)], "client");
    d.centred((fence + 4, 112), "small client", "KILL");
    d.centred((fence + 66, 82), "small client", "fence deadline");
    d.line(&[(seen, 206), (expiry, 206)], "operator");
    d.line(&[(seen, 200), (seen, 212)], "operator");
    d.line(&[(expiry, 184), (expiry, 212)], "operator");
    d.centred(
        (i32::midpoint(seen, expiry) - 30, 222),
        "small operator",
        "a whole TTL from when it saw it, by its own clock",
    );
    d.centred((expiry + 58, 206), "small operator", "expires");
    d.arrow(&[(expiry + 4, 212), (expiry + 14, 258)], By::Operator);
    d.rect((expiry + 16, 260), (150, 24), "good");
    d.centred((expiry + 91, 272), "small", "its command runs");
    d.line(&[(110, 306), (720, 306)], "rule");
    d.centred((700, 320), "small faint", "time");
    d.svg()
}
