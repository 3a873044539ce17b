//! The side that talks to the API server, in a thread of its own.
//!
//! Orders go in by a channel that never blocks; news come out by another one, with an eventfd to wake the loop.
//! Whatever ends the thread, a panic or a lack of memory too (see [`fault`]), is news itself: the supervisor then knows
//! that nobody renews any more.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
};

use konductor::{
    Client, Command, ConnectOptions, Exit, Request,
    rendezvous::{self, Arriving, Awaited},
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

/// The loop's end of the thread: gives it orders and hears its news.
pub(super) struct ClientThread {
    orders: UnboundedSender<Order>,
    news: mpsc::Receiver<Event>,
    wake: Arc<EventFd>,
    failed: bool,
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
    /// Starts the thread, which connects at once and asks for nothing before it is told.
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
                teller.tell(Event::ClientFailed { error: error.to_string() });
            }
        };
        let spawned = thread::Builder::new().name("client".to_owned()).spawn(work);
        spawned.map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))?;
        found::block()?;
        Ok(Self { orders, news, wake, failed: false })
    }

    pub(super) fn order(&self, order: Order) {
        // When the thread is gone, its last news say so.
        let _ = self.orders.send(order);
    }

    /// Adds all that the thread has told since.
    pub(super) fn read(&mut self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        match self.wake.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
        events.extend(self.news.try_iter());
        if let Some(error) = fault::said().filter(|_| !self.failed) {
            self.failed = true;
            events.push_back(Event::ClientFailed { error });
        }
        Ok(())
    }
}

impl AsFd for ClientThread {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// What the thread does until nobody can give it orders any more.
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
