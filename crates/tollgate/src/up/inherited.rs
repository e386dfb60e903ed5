//! Listeners that whoever started this process had opened before: systemd, or the process that is being replaced.
//!
//! Such a socket outlives the process. While nobody serves it, connections wait in its queue, and none is refused: so a
//! restart loses no call. The protocol is systemd's (`sd_listen_fds(3)`); which socket is which listener is said by
//! `LISTEN_FDNAMES`, which is what `FileDescriptorName=` of a socket unit sets.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::listeners::Name;

/// Takes the listeners that were passed to this process, by their names.
pub(crate) fn take() -> anyhow::Result<BTreeMap<Name, TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = BTreeMap::new();
    if passed.len() == 0 {
        return Ok(listeners);
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the binary, and the protocol is one of the environment"
    )]
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    for (index, name) in named(&names, passed.len())?.into_iter().enumerate() {
        let listener = passed
            .take_tcp_listener(index)
            .with_context(|| format!("the socket that is passed as {name} is no listener of TCP"))?
            .with_context(|| format!("the socket that is passed as {name} is gone"))?;
        listener.set_nonblocking(true)?;
        if listeners.insert(name.clone(), TcpListener::from_std(listener)?).is_some() {
            bail!("two sockets are passed as {name}: a listener has one address");
        }
    }
    Ok(listeners)
}

/// Reads the names of passed sockets, of which each must have one.
fn named(names: &str, sockets: usize) -> anyhow::Result<Vec<Name>> {
    let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
    if names.len() != sockets {
        bail!(
            "{sockets} sockets are passed to this process and {} of them have a name: name each after its listener, with \
             FileDescriptorName= in its socket unit, or in LISTEN_FDNAMES",
            names.len()
        );
    }
    let parse = |name: &str| {
        name.parse::<Name>()
            .map_err(|error| anyhow::anyhow!("a socket is passed as `{name}`, which is no listener: {error}"))
    };
    names.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_is_named_after_its_listener() {
        let names = named("console:test:prod.internal", 3).expect("names");
        assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["console", "test", "prod.internal"]
        );
        for (names, sockets) in [("", 1), ("test", 2), ("test:prod", 1), ("unknown:Test", 2), ("test.x", 1)] {
            assert!(named(names, sockets).is_err(), "{names}");
        }
    }
}
