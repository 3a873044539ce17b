//! Waiting for something while saying how it stands, until it is there, the time is up, or a signal comes.

use std::{future::Future, pin::Pin, time::Duration};

use konductor::{Boottime, Exit, clock::Alarm};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    context::Context,
    error::Error,
    patience::{News, Patience, live, told},
    signals::Signals,
};

/// Why the waiting has ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This signal came.
    Signal(i32),
    /// The time is up, or it cannot come any more.
    Because(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

impl Stop {
    /// How the program ends then.
    pub(crate) fn outcome(self) -> crate::error::Outcome {
        match self {
            Self::Signal(signal) => Ok(Exit::Signal(signal)),
            Self::Because(error) => Err(error),
        }
    }
}

/// Waits for `goal`, which tells its news, as long as `patience` lasts. After that signals end the process at once.
pub(crate) async fn wait_for<T>(
    context: &Context,
    patience: Patience,
    goal: Pin<&mut impl Future<Output = Result<T, Error>>>,
    news: &mut UnboundedReceiver<News>,
) -> Result<T, Stop> {
    let mut signals = listen()?;
    wait_hearing(&mut signals, context, patience, goal, news).await
}

/// Hears of signals, from here on.
pub(crate) fn listen() -> Result<Signals, Error> {
    Signals::new().map_err(|error| system(&error))
}

/// The same for who has more to do when it has ended, and hears of signals itself.
pub(crate) async fn wait_hearing<T>(
    signals: &mut Signals,
    context: &Context,
    mut patience: Patience,
    mut goal: Pin<&mut impl Future<Output = Result<T, Error>>>,
    news: &mut UnboundedReceiver<News>,
) -> Result<T, Stop> {
    let began = Boottime::now();
    let mut line = context.screen.progress();
    let mut alarm = Alarm::new().map_err(|error| system(&error))?;
    let (mut told_last, mut holder) = (String::new(), None);
    loop {
        alarm.set(Some(patience.ends()).filter(|at| *at != Boottime::NEVER)).map_err(|error| system(&error))?;
        tokio::select! {
            biased;
            reached = &mut goal => {
                // What it has told in the same moment.
                while let Ok(last) = news.try_recv() {
                    if let News::Note(text) = last {
                        line.notes(&text);
                    }
                }
                return reached.map_err(Stop::Because);
            }
            Some(news) = news.recv() => {
                let stands = match &news {
                    News::Waiting { object, message, ahead, missing } => told(object, message, *ahead, *missing),
                    News::Unsaid { object, message } => told(object, message, None, false),
                    News::Holder(_) | News::Trouble(_) | News::Note(_) | News::Contact => String::new(),
                };
                match &news {
                    News::Holder(names) => holder = Some(names.clone()),
                    News::Trouble(why) => line.notes(&format!("{why} (trying again)")),
                    News::Note(text) => line.notes(text),
                    News::Contact | News::Waiting { .. } | News::Unsaid { .. } => {}
                }
                if !stands.is_empty() {
                    told_last = stands;
                    if line.is_live() {
                        line.shows(&live(&told_last, holder.as_deref(), Boottime::now().since(began)));
                    } else {
                        line.says(&told_last);
                    }
                }
                if patience.hears(&news) {
                    return Err(patience.in_vain(Boottime::now()).into());
                }
            }
            signal = signals.next() => return Err(Stop::Signal(signal)),
            rung = alarm.ring() => {
                rung.map_err(|error| system(&error))?;
                return Err(patience.in_vain(Boottime::now()).into());
            }
            () = tokio::time::sleep(Duration::from_secs(1)), if line.is_live() && !told_last.is_empty() => {
                line.shows(&live(&told_last, holder.as_deref(), Boottime::now().since(began)));
            }
        }
    }
}

fn system(error: &std::io::Error) -> Error {
    Error::internal(format!("the operating system does not let this process wait: {error}"))
}
