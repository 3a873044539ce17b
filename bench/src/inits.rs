//! What an init costs that has nothing to acquire, beside inits that can do nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use konductor_tests::Process;
use tokio::time::sleep;

use crate::Effort;
use crate::footprint::{resident, size};
use crate::line::Line;
use crate::sample::{Figure, Sample};
use crate::scene::{LIMIT, Scene, clean};
use crate::table::{Row, Table};
use crate::whole::{TRUE, in_turns};

/// Inits to compare with, as Debian packages them.
const PEERS: [&str; 3] = ["tini", "dumb-init", "catatonit"];

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let inits = Inits::find(scene);
    inits.starts(effort, table);
    inits.memory(effort, table).await;
    inits.sizes(table);
}

/// Those that are there, `konductor-run` first.
struct Inits<'a> {
    scene: &'a Scene,
    programs: Vec<(&'static str, PathBuf)>,
    absent: Vec<&'static str>,
}

impl<'a> Inits<'a> {
    fn find(scene: &'a Scene) -> Self {
        let mut programs = vec![("konductor-run", scene.programs.run.clone())];
        let mut absent = Vec::new();
        for peer in PEERS {
            match which::which(peer) {
                Ok(path) => programs.push((peer, path)),
                Err(_) => absent.push(peer),
            }
        }
        Self { scene, programs, absent }
    }

    fn commands(&self, arguments: &[&str]) -> Vec<(&'static str, Command)> {
        let under = |path: &Path| {
            let mut command = clean(path);
            command.arg("--").args(arguments);
            command
        };
        self.programs.iter().map(|(name, path)| (*name, under(path))).collect()
    }

    /// What stands beside `konductor-run`'s own.
    fn peers(&self, show: impl Fn(usize) -> String) -> String {
        let found =
            self.programs.iter().enumerate().skip(1).map(|(place, (name, _))| format!("{name}: {}", show(place)));
        let absent = self.absent.iter().map(|name| format!("{name}: not installed"));
        found.chain(absent).collect::<Vec<_>>().join("; ")
    }

    /// A whole process that runs `true`.
    fn starts(&self, effort: Effort, table: &mut Table) {
        let mut commands = self.commands(&[TRUE]);
        commands.push(("bare", clean(Path::new(TRUE))));
        let samples = in_turns(&mut commands, effort.starts);
        let bare = &samples.last().expect("the bare one is there").1;
        let over = |place: usize| format!("{} ms", Figure(samples[place].1.median() - bare.median()));
        let ours = &samples[0].1;
        let row = Row::new("`konductor-run -- true`, nothing to acquire", ours.show(" ms"));
        table.push(row.beside(format!("bare `true`: {}", bare.show(" ms"))).ratio(ours.median() / bare.median()));
        table.push(Row::new("the same, over a bare spawn", over(0)).beside(self.peers(over)).goal("<= 2 ms"));
    }

    /// A second into the sleep of the command.
    async fn memory(&self, effort: Effort, table: &mut Table) {
        let line = Line::new(&self.scene.programs);
        let mut samples = vec![Sample::default(); self.programs.len()];
        for _ in 0..effort.runs {
            for ((name, command), sample) in self.commands(&line.command()).into_iter().zip(&mut samples) {
                let mut process = Process::spawn(name, command);
                let sleeper = line.next().await;
                sleep(Duration::from_secs(1)).await;
                sample.push(resident(process.pid()));
                sleeper.end().await;
                process.expect_exit(LIMIT, 0).await;
            }
        }
        let show = |place: usize| samples[place].show(" MB");
        let row = Row::new("the same, RSS a second into its command's sleep", show(0));
        table.push(row.beside(self.peers(show)).goal("<= 1.5 MB"));
    }

    fn sizes(&self, table: &mut Table) {
        let show = |place: usize| format!("{} MB", size(&self.programs[place].1));
        let etcdctl = size(&self.scene.programs.etcdctl);
        let beside = format!("{}; etcdctl: {etcdctl} MB", self.peers(show));
        table.push(Row::new("`konductor-run`, size, static", show(0)).beside(beside).goal("<= 7 MB"));
    }
}
