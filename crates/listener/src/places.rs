//! Connections by the address that they come from, so that nobody takes all places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often at most it is told that connections are refused.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How many connections each address has.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_address: HashMap<IpAddr, usize>,
    refused: u64,
    told_at: Option<Instant>,
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

// === impl Places ===

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), taken: Mutex::default() })
    }

    /// Takes a place; `None` when the address has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = subscriber(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.by_address.entry(address).or_default();
        if *count < self.most {
            *count += 1;
            return Some(Place { places: self.clone(), address });
        }
        taken.refused += 1;
        if taken.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_AGAIN) {
            tracing::warn!(
                %address,
                most = self.most,
                refused = taken.refused,
                "connections are refused: the address has as many as it may"
            );
            (taken.told_at, taken.refused) = (Some(Instant::now()), 0);
        }
        None
    }
}

/// Returns who has an address: all of an IPv6 /64 is one subscriber's.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.by_address.get_mut(&self.address).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            taken.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_places_and_gets_them_back() {
        let places = Places::new(2);
        let take = |text: &str| places.take(text.parse().expect("an address"));
        let (first, second) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        let _other = take("192.0.2.2").expect("another address");
        let _subscriber = (take("2001:db8::1").expect("free"), take("2001:db8::ffff:2").expect("free"));
        assert!(take("2001:db8::3").is_none(), "one subscriber");
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop(second);
        assert!(!places.taken.lock().expect("no panic").by_address.contains_key(&[192, 0, 2, 1].into()));
    }
}
