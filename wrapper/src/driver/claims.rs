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

use konductor::{AcquireError, Client, Command, ConnectError, ConnectOptions, LossReason, Request};
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
    supervisor::{Answer, Event},
};

/// What the supervisor wants of a claim.
#[derive(Clone, Copy, Debug)]
enum Order {
    Acquire(usize),
    Release(usize),
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
}

impl Claims {
    /// Starts the thread.
    pub(super) fn start(options: ConnectOptions, requests: Vec<Request>) -> nix::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (news_in, news) = mpsc::channel();
        let (orders, orders_out) = unbounded_channel();
        let teller = Teller { news: news_in, wake: Arc::clone(&wake) };
        fault::watch(Arc::clone(&wake));
        let work = move || {
            // The C library has unblocked two of its own.
            let worked = found::block().map_err(Into::into).and_then(|()| work(options, requests, orders_out, &teller));
            if let Err(error) = worked {
                teller.tell(Event::ClaimsFailed { error: error.to_string() });
            }
        };
        let spawned = thread::Builder::new().name("claims".to_owned()).spawn(work);
        spawned.map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))?;
        found::block()?;
        Ok(Self { orders, news, wake, failed: false })
    }

    pub(super) fn acquire(&self, index: usize) {
        self.order(Order::Acquire(index));
    }

    pub(super) fn release(&self, index: usize) {
        self.order(Order::Release(index));
    }

    fn order(&self, order: Order) {
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
    requests: Vec<Request>,
    orders: UnboundedReceiver<Order>,
    teller: &Teller,
) -> std::io::Result<()> {
    let block = || found::block().expect("a mask can be set");
    let runtime = runtime::Builder::new_current_thread().enable_all().on_thread_start(block).build()?;
    LocalSet::new().block_on(&runtime, serve(options, requests, orders, teller));
    Ok(())
}

async fn serve(options: ConnectOptions, requests: Vec<Request>, mut orders: UnboundedReceiver<Order>, teller: &Teller) {
    let client = Client::connect(options).await;
    let mut claims = JoinSet::new();
    let mut commands: Vec<Option<UnboundedSender<Command>>> = vec![None; requests.len()];
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = claims.join_next() => continue,
        };
        match order {
            None => return,
            Some(Order::Acquire(index)) => match &client {
                Ok(client) => {
                    let (sender, receiver) = unbounded_channel();
                    commands[index] = Some(sender);
                    let (client, request, teller) = (client.clone(), requests[index].clone(), teller.clone());
                    claims.spawn_local(async move {
                        konductor::run(client, request, receiver, |event| {
                            if let Some(answer) = answer(event) {
                                teller.tell(Event::Claim(index, answer));
                            }
                        })
                        .await;
                    });
                }
                Err(error) => teller.tell(Event::Claim(index, unreachable(error))),
            },
            Some(Order::Release(index)) => {
                // When the claim's task has ended, its last news say how.
                let _ = commands[index].take().map(|commands| commands.send(Command::Release));
            }
        }
    }
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
        konductor::Event::Failed { error } => {
            let exit = match error {
                AcquireError::NotInstalled { .. } => Exit::NoSuchPrimitive,
                AcquireError::System(_) => Exit::Internal,
                // Refused, and whatever else the library may learn to refuse.
                _ => Exit::Refused,
            };
            Answer::Failed { exit, error: error.to_string() }
        }
        // News that this version does not know are no reason to act.
        _ => return None,
    })
}

fn unreachable(error: &ConnectError) -> Answer {
    Answer::Failed { exit: Exit::Unreachable, error: konductor::chain(error) }
}
