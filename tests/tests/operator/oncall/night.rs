//! A night that is made up, for the picture of the dashboard: a batch of forty jobs comes at one o'clock for a
//! warehouse of five permits, the leader is replaced at half past two, and a node is lost at ten past three.

use std::fmt::Write as _;
use std::path::Path;

use super::prometheus::promtool;

/// From midnight to six o'clock, in unix seconds.
pub(crate) const TIMES: (f64, f64) = (1_768_435_200.0, 1_768_456_800.0);

/// How far the points of the picture are apart, in seconds.
pub(crate) const STEP: f64 = 120.0;

/// A sample each minute.
const MINUTES: u32 = 360;

/// When the leader is replaced, and when a node is lost, in minutes.
const HANDOVER: u32 = 150;
const LOSS: u32 = 190;

/// Bounds of the buckets that matter here.
const SPANS: [f64; 6] = [1.0, 60.0, 900.0, 1800.0, 3600.0, 14_400.0];
const TURNS: [f64; 4] = [0.0001, 0.0005, 0.001, 0.005];

/// Samples, by their families.
#[derive(Default)]
struct Samples(String);

impl Samples {
    /// A sample of this series at each minute.
    fn series(&mut self, series: &str, value: impl Fn(u32) -> f64) {
        for minute in 0..=MINUTES {
            let time = TIMES.0 as u64 + u64::from(minute) * 60;
            writeln!(self.0, "{series} {} {time}", value(minute)).expect("a string takes everything");
        }
    }

    /// The buckets of a histogram of values that come so often, of which this is the largest at each minute.
    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        bounds: &[f64],
        often: impl Fn(u32) -> f64,
        most: impl Fn(u32) -> f64,
    ) {
        let mut counts = vec![vec![0.0; bounds.len() + 1]];
        for minute in 1..=MINUTES {
            let mut next = counts[minute as usize - 1].clone();
            for (bound, count) in bounds.iter().chain([&f64::INFINITY]).zip(&mut next) {
                *count += often(minute) * (bound / most(minute)).min(1.0);
            }
            counts.push(next);
        }
        for (index, bound) in bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]).enumerate() {
            self.series(&format!("{name}_bucket{{le=\"{bound}\",{labels}}}"), |minute| {
                counts[minute as usize][index].floor()
            });
        }
    }
}

/// How many wait for the warehouse: the batch comes within ten minutes, and one in four and a half minutes goes on.
fn waiting(minute: u32) -> f64 {
    let come = (f64::from(minute) - 60.0).clamp(0.0, 10.0) * 4.0;
    (come - 5.0 - served(minute)).max(0.0)
}

/// How many of the batch have got their turn after having waited.
fn served(minute: u32) -> f64 {
    ((f64::from(minute) - 65.0).max(0.0) / 4.5).floor().min(35.0)
}

/// Adds up what comes each minute.
fn total(minute: u32, each: impl Fn(u32) -> f64) -> f64 {
    (1..=minute).map(each).sum::<f64>().floor()
}

/// Writes the night into this folder, as a Prometheus stores it.
pub(crate) fn write(folder: &Path) {
    let mut samples = Samples::default();
    let busy = |minute: u32| waiting(minute) > 0.0;
    let leads = |replica: &str, minute: u32| (replica == "a") == (minute < HANDOVER);
    for replica in ["a", "b"] {
        let pod = format!("pod=\"konductor-operator-{replica}\"");
        samples.series(&format!("konductor_leader{{{pod}}}"), |minute| f64::from(leads(replica, minute)));
        // The first one is replaced.
        let ready = |minute: u32| f64::from(!(replica == "a" && (HANDOVER..HANDOVER + 3).contains(&minute)));
        samples.series(&format!("konductor_ready{{{pod}}}"), ready);
        samples.series(&format!("konductor_build_info{{version=\"0.1.0\",{pod}}}"), |_| 1.0);
        let memory = |minute: u32| f64::from(9 << 20) + waiting(minute) * 20_000.0 + f64::from(minute % 7) * 4096.0;
        samples.series(&format!("process_resident_memory_bytes{{{pod}}}"), memory);
        let used = |minute: u32| if leads(replica, minute) && busy(minute) { 1.2 } else { 0.2 };
        samples.series(&format!("process_cpu_seconds_total{{{pod}}}"), |minute| (1..=minute).map(used).sum());
    }
    let lock = |name: &str, kind: &str| format!("{{namespace=\"etl\",kind=\"{kind}\",name=\"{name}\"}}");
    let (warehouse, report) = (lock("warehouse", "semaphore"), lock("report", "lease"));
    samples.series(&format!("konductor_waiting{warehouse}"), waiting);
    samples.series(&format!("konductor_waiting{report}"), |minute| f64::from((300..320).contains(&minute)));
    samples.series(&format!("konductor_in_use{warehouse}"), |minute| match minute {
        0..60 => f64::from(minute / 20 % 3),
        60..235 => 5.0,
        _ => 2.0,
    });
    samples.series(&format!("konductor_in_use{report}"), |minute| f64::from((240..330).contains(&minute)));
    samples.series(&format!("konductor_permits{warehouse}"), |_| 5.0);
    samples.series(&format!("konductor_permits{report}"), |_| 1.0);
    let oldest =
        |minute: u32| if busy(minute) { (f64::from(minute) - 62.0 - served(minute) / 4.0) * 60.0 } else { 0.0 };
    samples.series(&format!("konductor_oldest_waiter_seconds{warehouse}"), oldest);
    let of_report = |minute: u32| if (300..320).contains(&minute) { f64::from(minute - 300) * 60.0 } else { 0.0 };
    samples.series(&format!("konductor_oldest_waiter_seconds{report}"), of_report);
    let arrived = |minute: u32| (f64::from(minute) - 90.0).clamp(0.0, 160.0) / 4.0;
    let loaded = lock("loaded", "barrier");
    samples.series(&format!("konductor_barrier_arrived{loaded}"), |minute| arrived(minute).floor());
    samples.series(&format!("konductor_barrier_expected{loaded}"), |_| 40.0);
    samples.series(&format!("konductor_open{loaded}"), |minute| f64::from(arrived(minute) >= 40.0));
    samples.series(&format!("konductor_open{}", lock("business-hours", "gate")), |minute| f64::from(minute < 60));
    samples.series("konductor_parents_left_out", |_| 0.0);
    samples.series("konductor_unreadable{resource=\"permits\"}", |_| 0.0);
    for (kind, often) in [("semaphore", 2.0), ("lease", 0.5)] {
        let each = |minute: u32| if busy(minute) && kind == "semaphore" { 0.4 } else { often };
        samples.series(&format!("konductor_grants_total{{kind=\"{kind}\"}}"), |minute| total(minute, each));
        let waited =
            |minute: u32| if kind == "semaphore" { oldest(minute).max(1.0) } else { of_report(minute).max(1.0) };
        let labels = format!("kind=\"{kind}\"");
        samples.histogram("konductor_wait_seconds", &labels, &SPANS, |minute| each(minute) * 10.0, waited);
        let held = |minute: u32| if kind == "semaphore" { 1500.0 } else { 600.0 + f64::from(minute) };
        samples.histogram("konductor_hold_seconds", &labels, &SPANS, |minute| each(minute) * 10.0, held);
        for reason in ["died", "silent"] {
            let series = format!("konductor_expiries_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
            let lost = kind == "semaphore" && reason == "silent";
            samples.series(&series, |minute| f64::from(lost && minute >= LOSS));
        }
        samples.series(&format!("konductor_revocations_total{{kind=\"{kind}\"}}"), |_| 0.0);
        let failed = |minute: u32| if (HANDOVER..HANDOVER + 4).contains(&minute) { 3.0 } else { 0.0 };
        samples.series(&format!("konductor_reconcile_errors_total{{kind=\"{kind}\"}}"), |minute| total(minute, failed));
        let turns = format!("event_loop=\"{kind}\"");
        let longest = |minute: u32| if busy(minute) { 0.0009 } else { 0.0003 };
        samples.histogram("konductor_turn_processor_seconds", &turns, &TURNS, |_| 100.0, longest);
    }
    for (outcome, often) in [("applied", 12.0), ("conflict", 1.0)] {
        let each = |minute: u32| if busy(minute) { often * 3.0 } else { often };
        samples.series(&format!("konductor_writes_total{{outcome=\"{outcome}\"}}"), |minute| total(minute, each));
    }
    let restarts = |minute: u32| if (HANDOVER..HANDOVER + 4).contains(&minute) { 2.0 } else { 0.0 };
    samples.series("konductor_watch_restarts_total{resource=\"permits\"}", |minute| total(minute, restarts));
    samples.series("konductor_events_dropped_total", |_| 0.0);

    let file = folder.with_extension("samples");
    std::fs::write(&file, samples.0 + "# EOF\n").expect("write the samples");
    let [file, folder] = [&file, folder].map(|path| path.to_str().expect("a path in UTF-8"));
    promtool(&["tsdb", "create-blocks-from", "openmetrics", file, folder], "");
}
