//! What the kernel says of this process, under the names that all programs use for it. Looked up at each scrape; what
//! cannot be read is left out.

use std::fs;

use nix::time::{ClockId, clock_gettime};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Ticks in a second, of those that `/proc` counts in: part of the kernel's interface, whatever its own clock does.
const TICKS: f64 = 100.0;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut put = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let status = read("self/status");
        let kilobytes =
            |field| Some(of_field(&status, field)?.strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0);
        put("resident_memory_bytes", "Memory that is resident.", kilobytes("VmRSS:"))?;
        put("memory_limit_bytes", "Memory that its control group may use.", Some(memory_limit()))?;
        put("virtual_memory_bytes", "Address space that is used.", kilobytes("VmSize:"))?;
        put("threads", "Threads.", of_field(&status, "Threads:").and_then(number))?;
        let open = fs::read_dir("/proc/self/fd").ok().map(|descriptors| descriptors.count() as f64);
        put("open_fds", "Descriptors that are open.", open)?;
        put("max_fds", "Descriptors that may be open.", most_descriptors())?;
        put("start_time_seconds", "When the process was started, in unix seconds.", started())?;
        let Ok(used) = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) else { return Ok(()) };
        let used = ConstCounter::new(std::time::Duration::from(used).as_secs_f64());
        let help = "Time of processors that was used.";
        used.encode(encoder.encode_descriptor("cpu_seconds", help, None, used.metric_type())?)
    }
}

/// A file below `/proc`; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(format!("/proc/{path}")).unwrap_or_default()
}

/// What stands behind a word at the start of a line.
fn of_field<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(field)).map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn most_descriptors() -> Option<f64> {
    let limits = read("self/limits");
    let most = of_field(&limits, "Max open files")?.split_whitespace().next()?;
    if most == "unlimited" { Some(f64::INFINITY) } else { number(most) }
}

/// That of version 2 of control groups, which are what a container sees of its own; infinite if none is known.
fn memory_limit() -> f64 {
    limit(&fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default())
}

/// A control group's file says `max` if there is no limit.
fn limit(text: &str) -> f64 {
    text.trim().parse::<u64>().map_or(f64::INFINITY, |bytes| bytes as f64)
}

fn started() -> Option<f64> {
    let booted = number(of_field(&read("stat"), "btime")?)?;
    let stat = read("self/stat");
    // The name, which may hold anything, is in parentheses; the start is the 22nd field, and the 20th after the name.
    let ticks = number(stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?)?;
    Some(booted + ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn no_limit_of_memory_is_as_far_away_as_can_be() {
        let limits = ["134217728\n", "max\n", ""].map(|text| limit(text).to_string());
        assert_eq!(limits, ["134217728", "inf", "inf"]);
    }

    #[test]
    fn the_kernel_tells_all_of_it() {
        let mut registry = Registry::with_prefix("process");
        registry.register_collector(Box::new(Process));
        let mut text = String::new();
        encode(&mut text, &registry).expect("it can be written");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            line.and_then(number).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        let now = crate::clock::wall().as_second() as f64;
        let started = value("start_time_seconds");
        assert!(started > now - 86_400.0 && started < now + 60.0, "{started} {now}");
        let (resident, all) = (value("resident_memory_bytes"), value("virtual_memory_bytes"));
        assert!(resident > 100_000.0 && all >= resident, "{text}");
        assert!(value("open_fds") >= 3.0 && value("max_fds") >= value("open_fds"), "{text}");
        assert!(value("threads") >= 1.0 && value("cpu_seconds_total") > 0.0, "{text}");
    }
}
