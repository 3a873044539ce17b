//! The side that talks to the API server, in a thread of its own.
//!
//! Orders go in by a channel that never blocks; news come out by another one, with an eventfd to wake the loop. Whatever ends
//! the thread, a panic or a lack of memory too (see [`fault`]), is news itself: the supervisor then knows that nobody renews any more.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
};

use konductor::{
    AcquireError, Client, Command, ConnectError, ConnectOptions, LossReason, RendezvousError, Request,
    rendezvous::{self, Arriving, Awaited, Progress},
};
use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinSet, LocalSet},
};

use super::{fault, found};
use crate::{
    exit::Exit,
    supervisor::{Answer, Event, Told},
};

/// What the supervisor wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// To see something open.
    Await(usize),
    /// A claim.
    Acquire(usize),
    /// To give a claim back.
    Release(usize),
    /// To arrive somewhere.
    Arrive(usize),
}

/// All that can be ordered.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) awaited: Vec<Awaited>,
    pub(super) requests: Vec<Request>,
    pub(super) arrivals: Vec<Arriving>,
}

/// The near end.
pub(super) struct Claims {
    orders: UnboundedSender<Order>,
    news: mpsc::Receiver<Event>,
    wake: Arc<EventFd>,
    failed: bool,
}

/// The far end's way to tell something.
#[derive(Clone)]
struct Teller {
    news: mpsc::Sender<Event>,
    wake: Arc<EventFd>,
}

impl Teller {
    fn tell(&self, event: Event) {
        // Nobody listens any more only when the process is about to exit.
        let _ = self.news.send(event);
        // A counter that cannot be raised any further is not zero, so the loop wakes up all the same.
        let _ = self.wake.write(1);
    }

    fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.tell(event));
    }
}

impl Claims {
    /// Starts the thread.
    pub(super) fn start(options: ConnectOptions, wishes: Wishes) -> nix::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (news_in, news) = mpsc::channel();
        let (orders, orders_out) = unbounded_channel();
        let teller = Teller { news: news_in, wake: Arc::clone(&wake) };
        fault::watch(Arc::clone(&wake));
        let work = move || {
            // The C library has unblocked two of its own.
            let worked = found::block().map_err(Into::into).and_then(|()| work(options, wishes, orders_out, &teller));
            if let Err(error) = worked {
                teller.tell(Event::ClaimsFailed { error: error.to_string() });
            }
        };
        let spawned = thread::Builder::new().name("claims".to_owned()).spawn(work);
        spawned.map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))?;
        found::block()?;
        Ok(Self { orders, news, wake, failed: false })
    }

    pub(super) fn order(&self, order: Order) {
        // When the thread is gone, its last news say so.
        let _ = self.orders.send(order);
    }

    /// Tells all news.
    pub(super) fn read(&mut self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        match self.wake.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
        events.extend(self.news.try_iter());
        if let Some(error) = fault::said().filter(|_| !self.failed) {
            self.failed = true;
            events.push_back(Event::ClaimsFailed { error });
        }
        Ok(())
    }
}

impl AsFd for Claims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The thread: until nobody can give orders any more.
fn work(
    options: ConnectOptions,
    wishes: Wishes,
    orders: UnboundedReceiver<Order>,
    teller: &Teller,
) -> std::io::Result<()> {
    let block = || found::block().expect("a mask can be set");
    let runtime = runtime::Builder::new_current_thread().enable_all().on_thread_start(block).build()?;
    LocalSet::new().block_on(&runtime, serve(options, wishes, orders, teller));
    Ok(())
}

async fn serve(options: ConnectOptions, wishes: Wishes, mut orders: UnboundedReceiver<Order>, teller: &Teller) {
    let Wishes { awaited, requests, arrivals } = wishes;
    let client = Client::connect(options).await;
    let mut tasks = JoinSet::new();
    let mut commands: Vec<Option<UnboundedSender<Command>>> = vec![None; requests.len()];
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(order) = order else { return };
        let client = match &client {
            Ok(client) => client.clone(),
            Err(error) => {
                teller.tell_all(unreachable(order, error));
                continue;
            }
        };
        let teller = teller.clone();
        match order {
            Order::Await(index) => {
                let tell = move |progress| teller.tell_all(told(progress).map(|told| Event::Awaited(index, told)));
                tasks.spawn_local(rendezvous::wait(client, awaited[index].clone(), tell));
            }
            Order::Acquire(index) => {
                let (sender, receiver) = unbounded_channel();
                commands[index] = Some(sender);
                let tell = move |event| teller.tell_all(answer(event).map(|answer| Event::Claim(index, answer)));
                tasks.spawn_local(konductor::run(client, requests[index].clone(), receiver, tell));
            }
            Order::Release(index) => {
                // When the claim's task has ended, its last news say how.
                let _ = commands[index].take().map(|commands| commands.send(Command::Release));
            }
            Order::Arrive(index) => {
                let tell = move |progress| teller.tell_all(told(progress).map(|told| Event::Arrival(index, told)));
                tasks.spawn_local(rendezvous::arrive(client, arrivals[index].clone(), tell));
            }
        }
    }
}

/// What the progress of a wait or an arrival means to the supervisor. News that this version does not know mean nothing.
fn told(progress: Progress) -> Option<Told> {
    Some(match progress {
        Progress::Seen => Told::Seen,
        Progress::Waiting { message, missing } => Told::Waiting { message, missing },
        Progress::Retrying { operation, error } => Told::Retrying { operation, error },
        Progress::RoundOver { failed, message } => Told::RoundOver { failed, message },
        Progress::Done => Told::Done,
        Progress::Failed { error } => {
            let exit = match &error {
                RendezvousError::Failed(_) => Exit::Failed,
                RendezvousError::Request(error) => failure(error),
                _ => Exit::Refused,
            };
            Told::Failed { exit, error: error.to_string() }
        }
        _ => return None,
    })
}

/// What an event of the client means to the supervisor.
fn answer(event: konductor::Event) -> Option<Answer> {
    Some(match event {
        konductor::Event::Asked => Answer::Asked,
        konductor::Event::Waiting { ahead, parent_missing, .. } => Answer::Waiting { ahead, missing: parent_missing },
        konductor::Event::Held { fencing_token, ttl, deadline } => Answer::Held { token: fencing_token, ttl, deadline },
        konductor::Event::Extended { deadline } => Answer::Extended { deadline },
        konductor::Event::Retrying { operation, error } => Answer::Retrying { operation, error },
        konductor::Event::Lost { reason } => {
            // A revoked claim still counts as held; all others may be held by somebody else by now.
            Answer::Lost { taken: !matches!(reason, LossReason::Revoked(_)), reason: reason.to_string() }
        }
        konductor::Event::Released => Answer::Released,
        konductor::Event::Abandoned { error } => Answer::Abandoned { error },
        konductor::Event::Failed { error } => Answer::Failed { exit: failure(&error), error: error.to_string() },
        // News that this version does not know are no reason to act.
        _ => return None,
    })
}

fn failure(error: &AcquireError) -> Exit {
    match error {
        AcquireError::NotInstalled { .. } | AcquireError::NoNamespace { .. } => Exit::NoSuchPrimitive,
        AcquireError::System(_) => Exit::Internal,
        // Refused, and whatever else the library may learn to refuse.
        _ => Exit::Refused,
    }
}

/// What becomes of an order when there is no cluster to carry it out.
fn unreachable(order: Order, error: &ConnectError) -> Option<Event> {
    let (exit, error) = (Exit::Unreachable, konductor::chain(error));
    Some(match order {
        Order::Await(index) => Event::Awaited(index, Told::Failed { exit, error }),
        Order::Acquire(index) => Event::Claim(index, Answer::Failed { exit, error }),
        Order::Arrive(index) => Event::Arrival(index, Told::Failed { exit, error }),
        // There is nothing to give back.
        Order::Release(_) => return None,
    })
}
