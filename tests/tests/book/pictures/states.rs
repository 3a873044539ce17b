//! The states of each resource, and who moves it from one to the next.
//!
//! The names of states are those of the API's own types, so that a state that is renamed or added is missed here.

use konductor_api::rendezvous::RendezvousPhase;
use konductor_api::{ClaimPhase, LeasePhase};

use konductor_tests::book::drawing::{By, Drawing};

const LEGEND: [(By, &str); 3] =
    [(By::Client, "the client (konductor-run)"), (By::Operator, "the operator"), (By::Person, "a person")];

const BOX: (i32, i32) = (150, 56);

/// A state, by its middle.
fn state(drawing: &mut Drawing, (x, y): (i32, i32), name: &str, words: &str, class: &str) {
    drawing.rect((x - BOX.0 / 2, y - BOX.1 / 2), BOX, class);
    if words.is_empty() {
        drawing.centred((x, y), "strong", name);
    } else {
        drawing.centred((x, y - 9), "strong", name);
        drawing.centred((x, y + 11), "small faint", words);
    }
}

/// Where something begins, or ends.
fn end(drawing: &mut Drawing, (x, y): (i32, i32), words: &str) {
    drawing.centred((x, y), "small faint", words);
}

fn label(drawing: &mut Drawing, at: (i32, i32), by: By, words: &str) {
    drawing.centred(at, &format!("small {}", by.class()), words);
}

/// As the API writes it.
fn name(phase: &impl serde::Serialize) -> String {
    match serde_json::to_value(phase) {
        Ok(serde_json::Value::String(name)) => name,
        other => panic!("a phase is a word: {other:?}"),
    }
}

/// A permit, from its creation to its end.
pub(crate) fn semaphore() -> String {
    let title = "States of a permit. The client creates it: Pending. The operator, when its turn comes: Granted. The client \
                 confirms the grant and renews it while the command runs. When the command has ended the client deletes \
                 it. A person may ask for its end: Revoking, until the client has ended the command. The operator ends \
                 what is not renewed for its TTL, or whose container has ended: Expired.";
    let mut d = Drawing::new(760, 400, title);
    let (pending, granted, runs, revoking, expired) = ((110, 170), (360, 80), (640, 80), (640, 230), (360, 290));
    d.legend((24, 28), &LEGEND);
    // There is a phase for each state, and a state for each phase.
    let words = |phase| match phase {
        ClaimPhase::Pending => (pending, "in the queue", "box"),
        ClaimPhase::Granted => (granted, "with a fencing token", "box"),
        ClaimPhase::Revoking => (revoking, "asked to end", "box"),
        ClaimPhase::Expired => (expired, "holds nothing", "box"),
    };
    for phase in [ClaimPhase::Pending, ClaimPhase::Granted, ClaimPhase::Revoking, ClaimPhase::Expired] {
        let (at, said, class) = words(phase);
        state(&mut d, at, &name(&phase), said, class);
    }
    state(&mut d, runs, "confirmed", "the command runs", "good");
    end(&mut d, (110, 76), "(none)");
    end(&mut d, (700, 366), "(deleted)");

    d.arrow(&[(110, 88), (110, 142)], By::Client);
    label(&mut d, (146, 114), By::Client, "creates");
    d.arrow(&[(185, 150), (285, 96)], By::Operator);
    label(&mut d, (206, 108), By::Operator, "its turn");
    d.arrow(&[(435, 80), (565, 80)], By::Client);
    label(&mut d, (500, 66), By::Client, "confirms");
    d.arrow(&[(610, 52), (610, 36), (670, 36), (670, 52)], By::Client);
    label(&mut d, (710, 40), By::Client, "renews");
    d.arrow(&[(620, 108), (620, 202)], By::Person);
    label(&mut d, (588, 146), By::Person, "revokes");
    d.arrow(&[(715, 92), (738, 92), (738, 356)], By::Client);
    label(&mut d, (688, 150), By::Client, "releases:\nall has ended");
    d.arrow(&[(680, 258), (680, 352)], By::Client);
    label(&mut d, (634, 306), By::Client, "has ended\nthe command");
    d.arrow(&[(565, 104), (435, 268)], By::Operator);
    label(&mut d, (398, 170), By::Operator, "no renewal for the TTL,\nor its container has ended");
    d.arrow(&[(565, 246), (435, 284)], By::Operator);
    label(&mut d, (520, 284), By::Operator, "likewise");
    d.arrow(&[(135, 198), (285, 280)], By::Operator);
    label(&mut d, (150, 256), By::Operator, "its pod has ended,\nor it was revoked");
    d.arrow(&[(85, 198), (85, 362)], By::Client);
    label(&mut d, (48, 320), By::Client, "gives up");
    end(&mut d, (85, 376), "(deleted)");
    d.arrow(&[(360, 318), (360, 362)], By::Operator);
    label(&mut d, (416, 340), By::Operator, "a while later");
    end(&mut d, (360, 376), "(deleted)");
    d.svg()
}

/// A lease: of nobody, or of one.
pub(crate) fn lease() -> String {
    let title = "States of a lease. Available: nobody holds it. The operator grants it to the first in line: Held, with a \
                 greater fencing token. It is free when the client has released it, when the operator knows that the \
                 holder's container has ended, or when no renewal was seen for the TTL; if somebody waits, the operator \
                 grants it to the next one at once.";
    let mut d = Drawing::new(760, 300, title);
    d.legend((24, 28), &LEGEND);
    let (available, held) = ((120, 150), (560, 150));
    state(&mut d, available, &name(&LeasePhase::Available), "nobody holds it", "box");
    state(&mut d, held, &name(&LeasePhase::Held), "by one holder", "good");
    d.arrow(&[(195, 136), (485, 136)], By::Operator);
    label(&mut d, (340, 112), By::Operator, "grants it to the first in line,\nwith a greater fencing token");
    d.arrow(&[(510, 178), (510, 216), (120, 216), (120, 178)], By::Client);
    label(&mut d, (310, 200), By::Client, "releases: all that it ran has ended");
    d.arrow(&[(560, 178), (560, 258), (90, 258), (90, 178)], By::Operator);
    label(&mut d, (330, 240), By::Operator, "its container has ended, or no renewal for the TTL");
    d.arrow(&[(530, 122), (530, 84), (610, 84), (610, 122)], By::Operator);
    label(&mut d, (570, 66), By::Operator, "free, and somebody waits: the next holder");
    d.arrow(&[(635, 140), (680, 140), (680, 164), (635, 164)], By::Client);
    label(&mut d, (716, 152), By::Client, "renews");
    d.svg()
}

/// A barrier's round.
pub(crate) fn barrier() -> String {
    let title = "States of a barrier. Waiting: clients arrive, each key counts once. The operator opens it when all have \
                 arrived, or when the timeout has passed and a quorum has; else it fails at the timeout. Open and Failed \
                 are final, unless a person edits or resets it, or the time for the next round has come: then all \
                 arrivals are deleted and it waits again.";
    let mut d = Drawing::new(760, 330, title);
    d.legend((24, 28), &LEGEND);
    let (waiting, open, failed) = ((150, 170), (590, 100), (590, 240));
    let at = |phase| match phase {
        RendezvousPhase::Waiting => (waiting, "those who wait wait", "box"),
        RendezvousPhase::Open => (open, "those who wait go on", "good"),
        RendezvousPhase::Failed => (failed, "those who wait end: 76", "box"),
    };
    for phase in [RendezvousPhase::Waiting, RendezvousPhase::Open, RendezvousPhase::Failed] {
        let (at, words, class) = at(phase);
        state(&mut d, at, &name(&phase), words, class);
    }
    d.arrow(&[(120, 142), (120, 96), (180, 96), (180, 142)], By::Client);
    label(&mut d, (150, 78), By::Client, "arrive, each key once");
    d.arrow(&[(225, 158), (515, 108)], By::Operator);
    label(&mut d, (350, 94), By::Operator, "all have arrived; or the timeout\nhas passed, and a quorum has");
    d.arrow(&[(225, 182), (515, 232)], By::Operator);
    label(&mut d, (380, 178), By::Operator, "the timeout has passed");
    d.arrow(&[(665, 100), (725, 100), (725, 296), (150, 296), (150, 198)], By::Operator);
    d.arrow(&[(590, 268), (590, 296), (150, 296), (150, 198)], By::Operator);
    label(&mut d, (330, 282), By::Operator, "resetAfter has passed: the next round, no arrivals");
    d.arrow(&[(555, 268), (555, 316), (110, 316), (110, 198)], By::Person);
    label(&mut d, (58, 252), By::Person, "edits the spec,\nor resets it\n(also an\nopen one)");
    d.svg()
}

/// A gate.
pub(crate) fn gate() -> String {
    let title = "States of a gate. Waiting while its conditions are not met, Open while they are; the operator moves it \
                 either way as things change. With a timeout it fails when it has waited for so long, and still opens \
                 when its conditions are met after all. A person's override holds it open or closed until it is taken \
                 away.";
    let mut d = Drawing::new(760, 330, title);
    d.legend((24, 28), &LEGEND);
    let (waiting, open, failed) = ((130, 120), (600, 120), (365, 260));
    let at = |phase| match phase {
        RendezvousPhase::Waiting => (waiting, "those who wait wait", "box"),
        RendezvousPhase::Open => (open, "those who wait go on", "good"),
        RendezvousPhase::Failed => (failed, "those who wait end: 76", "box"),
    };
    for phase in [RendezvousPhase::Waiting, RendezvousPhase::Open, RendezvousPhase::Failed] {
        let (at, words, class) = at(phase);
        state(&mut d, at, &name(&phase), words, class);
    }
    d.arrow(&[(205, 108), (525, 108)], By::Operator);
    label(&mut d, (365, 94), By::Operator, "its conditions are met");
    d.arrow(&[(525, 134), (205, 134)], By::Operator);
    label(&mut d, (365, 150), By::Operator, "they are no longer");
    d.arrow(&[(150, 148), (300, 232)], By::Operator);
    label(&mut d, (158, 208), By::Operator, "the timeout\nhas passed");
    d.arrow(&[(430, 232), (580, 148)], By::Operator);
    label(&mut d, (580, 208), By::Operator, "its conditions\nare met after all");
    d.arrow(&[(130, 68), (130, 92)], By::Person);
    label(&mut d, (130, 56), By::Person, "override: Closed");
    d.arrow(&[(600, 68), (600, 92)], By::Person);
    label(&mut d, (600, 56), By::Person, "override: Open");
    d.svg()
}
