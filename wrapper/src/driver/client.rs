//! The side that talks to the API server, in a thread of its own.
//!
//! In a folder it does without one while nothing is to be waited for, or to be told ([`konductor::local::Held`]).
//!
//! Orders go in by a channel that never blocks; news come out by another one, with an eventfd to wake the loop.
//! Whatever ends the thread, a panic or a lack of memory too (see [`fault`]), is news itself: the supervisor then knows
//! that nobody renews any more.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use konductor::{
    Command, ConnectOptions, Event as News, Exit, Request,
    local::Held,
    moments,
    rendezvous::{self, Arriving, Awaited},
};
use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinSet, LocalSet},
};

use super::{
    fault,
    found::{self, Found},
    refusal::{Refusal, pause, refused},
};
use crate::supervisor::Event;

/// What the supervisor wants of the client, by the index in [`Wishes`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// To see one of [`Wishes::awaited`] open.
    Await(usize),
    /// To hold one of [`Wishes::requests`].
    Acquire(usize),
    /// To give one of [`Wishes::requests`] back.
    Release(usize),
    /// To make one of [`Wishes::arrivals`].
    Arrive(usize),
}

/// All that the supervisor can order.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) awaited: Vec<Awaited>,
    pub(super) requests: Vec<Request>,
    pub(super) arrivals: Vec<Arriving>,
}

/// Who carries out the orders.
pub(super) enum Client {
    Thread(ClientThread),
    /// The first thread: all that is wanted is one claim, which is held already; or was, before it was given back.
    Holds {
        held: Option<Held>,
        found: Found,
    },
}

impl Client {
    /// Begins, and connects at once; asks for nothing that has to be waited for before it is told.
    pub(super) fn start(options: ConnectOptions, wishes: Wishes, found: Found) -> Result<Self, Refusal> {
        if let (Some(local), [request]) = (&options.local, &*wishes.requests)
            && let Some(held) = local.hold_at_once(request)
        {
            return Ok(Self::Holds { held: Some(held), found });
        }
        ClientThread::start(options, wishes, None, found).map(Self::Thread)
    }

    pub(super) fn order(&mut self, order: Order, events: &mut VecDeque<Event>) {
        match (&mut *self, order) {
            (Self::Thread(thread), order) => thread.order(order),
            (Self::Holds { held: Some(held), .. }, Order::Acquire(index)) => {
                events.extend([News::Asked, held.event()].map(|news| Event::Claim(index, news)));
            }
            (Self::Holds { held, found }, Order::Release(index)) => {
                let found = *found;
                match held.take().and_then(Held::release_at_once) {
                    None => events.push_back(Event::Claim(index, News::Released)),
                    Some(held) => match ClientThread::to_release(held, index, found) {
                        Ok(thread) => {
                            thread.order(order);
                            *self = Self::Thread(thread);
                        }
                        Err(refusal) => {
                            // The end of its lock says the same as what is written.
                            tracing::debug!("{refusal}");
                            events.push_back(Event::Claim(index, News::Released));
                        }
                    },
                }
            }
            // In a folder there is nothing else to order.
            (Self::Holds { .. }, _) => {}
        }
    }

    /// Adds all that has been told since.
    pub(super) fn read(&mut self, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        match self {
            Self::Thread(thread) => thread.read(events),
            Self::Holds { .. } => Ok(()),
        }
    }

    /// What can be read when there is news that nobody waits for here.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Thread(thread) => Some(thread.wake.as_fd()),
            Self::Holds { .. } => None,
        }
    }
}

/// The loop's end of the thread: gives it orders and hears its news.
pub(super) struct ClientThread {
    orders: UnboundedSender<Order>,
    news: mpsc::Receiver<Event>,
    wake: Arc<EventFd>,
    failed: bool,
    /// The claim that it is there to give back, and for nothing else.
    gives_back: Option<usize>,
}

/// The thread's way to tell the loop something.
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

impl ClientThread {
    /// Starts the thread to give back what is held.
    fn to_release(held: Held, index: usize, found: Found) -> Result<Self, Refusal> {
        let options = ConnectOptions { local: Some(held.local().clone()), ..ConnectOptions::default() };
        let wishes = Wishes { awaited: Vec::new(), requests: Vec::new(), arrivals: Vec::new() };
        let thread = Self::start(options, wishes, Some(held), found)?;
        Ok(Self { gives_back: Some(index), ..thread })
    }

    /// Starts the thread, which connects at once and asks for nothing before it is told.
    fn start(options: ConnectOptions, wishes: Wishes, held: Option<Held>, found: Found) -> Result<Self, Refusal> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = Arc::new(wake.map_err(refused("hear from the client", "eventfd(2)"))?);
        let (news_in, news) = mpsc::channel();
        let (orders, orders_out) = unbounded_channel();
        let teller = Teller { news: news_in, wake: Arc::clone(&wake) };
        let work = move || {
            fault::watch(Arc::clone(&teller.wake));
            // The C library has unblocked two of its own.
            let blocked = found::block().map_err(refused("block signals", "rt_sigprocmask(2)"));
            if let Err(error) = blocked.and_then(|()| work(options, wishes, held, orders_out, &teller, found)) {
                teller.tell(Event::ClientFailed { error: error.to_string() });
            }
        };
        let spawned = thread::Builder::new().name("client".to_owned()).spawn(work);
        let spawned = spawned.map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw));
        spawned.map_err(refused("start a thread", "clone3(2)"))?;
        found::block().map_err(refused("block signals", "rt_sigprocmask(2)"))?;
        Ok(Self { orders, news, wake, failed: false, gives_back: None })
    }

    fn order(&self, order: Order) {
        // When the thread is gone, its last news say so.
        let _ = self.orders.send(order);
    }

    /// Adds all that the thread has told since.
    fn read(&mut self, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        match self.wake.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(refused("hear from the client", "read(2) of an eventfd")(error)),
        }
        let before = events.len();
        events.extend(self.news.try_iter());
        if let Some(error) = fault::said().filter(|_| !self.failed) {
            self.failed = true;
            events.push_back(Event::ClientFailed { error });
        }
        if let Some(index) = self.gives_back {
            for event in events.range_mut(before..) {
                if let Event::ClientFailed { error } = event {
                    // The end of its lock says the same as what is written.
                    tracing::debug!("{error}");
                    *event = Event::Claim(index, News::Released);
                }
            }
        }
        Ok(())
    }
}

/// What the thread does until nobody can give it orders any more.
fn work(
    options: ConnectOptions,
    wishes: Wishes,
    held: Option<Held>,
    orders: UnboundedReceiver<Order>,
    teller: &Teller,
    found: Found,
) -> Result<(), Refusal> {
    konductor::on_thread_start(block);
    let (logging_in, telling) = (Arc::new(AtomicBool::new(false)), teller.clone());
    let begun = Arc::clone(&logging_in);
    // Once the command is executed this process is somewhere else, and what a login program is told may be relative.
    let folder = std::env::current_dir().ok();
    konductor::on_login(move |program| {
        if let Some(folder) = folder.as_ref().filter(|folder| folder.is_dir()) {
            program.current_dir(folder);
        }
        found.hand_on(program);
        // What comes after the first one is told by the requests that wait for it.
        if !begun.swap(true, Ordering::Relaxed) {
            telling.tell(Event::LoggingIn { program: program.get_program().to_string_lossy().into_owned() });
        }
    });
    LocalSet::new().block_on(&runtime()?, serve(options, wishes, held, orders, teller, &logging_in));
    Ok(())
}

/// For threads that others start: the C library unblocks one of its own signals in each.
fn block() {
    found::block().expect("a mask can be set");
}

/// What the thread waits with, for as long as it takes to get it.
fn runtime() -> Result<Runtime, Refusal> {
    let mut waited = Duration::ZERO;
    loop {
        let built = runtime::Builder::new_current_thread().enable_all().on_thread_start(block).build();
        let built = built.map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw));
        match built.map_err(refused("wait for answers", "epoll_create1(2) or eventfd(2)")) {
            Ok(runtime) => return Ok(runtime),
            Err(refusal) => {
                let next = pause(&refusal, waited).ok_or(refusal)?;
                tracing::debug!("{refusal}; trying again");
                thread::sleep(next);
                waited += next;
            }
        }
    }
}

async fn serve(
    options: ConnectOptions,
    wishes: Wishes,
    mut held: Option<Held>,
    mut orders: UnboundedReceiver<Order>,
    teller: &Teller,
    logging_in: &AtomicBool,
) {
    let Wishes { awaited, requests, arrivals } = wishes;
    let client = konductor::Client::connect(options).await;
    if logging_in.swap(true, Ordering::Relaxed) {
        teller.tell(Event::LoggedIn);
    }
    moments::note("configured");
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
                teller.tell(Event::Unreachable { exit: Exit::from(error), error: konductor::chain(error) });
                continue;
            }
        };
        let teller = teller.clone();
        match order {
            Order::Await(index) => {
                let tell = move |progress| teller.tell(Event::Awaited(index, progress));
                tasks.spawn_local(rendezvous::wait(client, awaited[index].clone(), tell));
            }
            Order::Acquire(index) => {
                let (sender, receiver) = unbounded_channel();
                commands[index] = Some(sender);
                let tell = move |event| teller.tell(Event::Claim(index, event));
                tasks.spawn_local(konductor::run(client, requests[index].clone(), receiver, tell));
            }
            Order::Release(index) if held.is_some() => {
                let held = held.take();
                tasks.spawn_local(async move {
                    if let Some(held) = held {
                        held.release().await;
                    }
                    teller.tell(Event::Claim(index, News::Released));
                });
            }
            Order::Release(index) => {
                // When the claim's task has ended, its last news say how.
                let _ = commands[index].take().map(|commands| commands.send(Command::Release));
            }
            Order::Arrive(index) => {
                let tell = move |progress| teller.tell(Event::Arrival(index, progress));
                tasks.spawn_local(rendezvous::arrive(client, arrivals[index].clone(), tell));
            }
        }
    }
}
