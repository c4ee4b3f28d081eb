//! Keeps the HTTP client off refused networks: what an URL says, and what a name stands for at the moment of each connection.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::causes::causes;
use super::denied::{Denied, DeniedNetworks};

/// Whether the host of an URL is an address that is refused. The URL was parsed, so that an address which was written in octal,
/// hexadecimal or as one number is one here too. The client asks its resolver for names only.
pub fn check(denied: &DeniedNetworks, url: &Url) -> Result<(), Denied> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => denied.check(host, address),
        Err(_) => Ok(()),
    }
}

/// The refused address, where that is why there is no connection.
pub(crate) fn denied<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Denied> {
    causes(error).find_map(|e| e.downcast_ref::<Denied>())
}

/// A resolver that gives no address of a name one of whose addresses is refused: which one is tried first is not up to us.
pub struct Guarded {
    denied: DeniedNetworks,
    system: Arc<dyn Resolve>,
}

impl Guarded {
    /// Before the system's own resolver.
    #[must_use]
    pub fn new(denied: DeniedNetworks) -> Self {
        Self::before(denied, Arc::new(System))
    }

    /// Before another resolver.
    #[must_use]
    pub fn before(denied: DeniedNetworks, system: Arc<dyn Resolve>) -> Self {
        Self { denied, system }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, denied) = (name.as_str().to_owned(), self.denied.clone());
        let resolving = self.system.resolve(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            for address in &found {
                denied.check(&host, address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What the system says, as the client would ask it by itself.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn checked(url: &str) -> Option<String> {
        check(&DeniedNetworks::default(), &Url::parse(url).unwrap()).err().map(|denied| denied.address.to_string())
    }

    #[test]
    fn an_address_in_an_url_is_seen_however_it_is_written() {
        for url in [
            "https://169.254.169.254/dcimgr",
            "https://169.254.169.254.:1500/dcimgr",
            "https://2852039166/dcimgr",
            "https://0xa9fea9fe/dcimgr",
            "https://0xa9.0xfe.0xa9.0xfe/dcimgr",
            "https://0251.0376.0251.0376/dcimgr",
            "https://169.254.43518/dcimgr",
            "https://１６９.254.169.254/dcimgr",
        ] {
            assert_eq!(checked(url).as_deref(), Some("169.254.169.254"), "{url}");
        }
        for url in ["https://[::ffff:169.254.169.254]/dcimgr", "https://[fe80::1]:1500/dcimgr", "https://[FD00:EC2::254]/dcimgr"] {
            assert!(checked(url).is_some(), "{url}");
        }
        for url in ["https://dci.example.net/dcimgr", "https://169.254.169.254.example.net/dcimgr", "https://10.0.0.1/dcimgr"] {
            assert_eq!(checked(url), None, "{url}");
        }
    }

    /// Says these things one after another.
    struct Says(Mutex<Vec<Vec<&'static str>>>);

    impl Resolve for Says {
        fn resolve(&self, _: Name) -> Resolving {
            let said = self.0.lock().unwrap().remove(0);
            let found: Vec<SocketAddr> = said.into_iter().map(|a| SocketAddr::new(a.parse().unwrap(), 0)).collect();
            Box::pin(std::future::ready(Ok(Box::new(found.into_iter()) as Addrs)))
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_at_for_each_connection_and_one_refused_address_is_enough() {
        let says = Says(Mutex::new(vec![
            vec!["10.0.0.7"],
            vec!["169.254.169.254"],
            vec!["10.0.0.7", "::ffff:169.254.169.254"],
            vec!["10.0.0.7", "2001:db8::7"],
        ]));
        let guarded = Guarded::before(DeniedNetworks::default(), Arc::new(says));
        let mut answers = Vec::new();
        for _ in 0..4 {
            let answer = guarded.resolve("dci.example.net".parse().unwrap()).await;
            answers.push(answer.map(Iterator::count).map_err(|e| denied(e.as_ref()).unwrap().address.to_string()));
        }
        let refused = |address: &str| Err(address.to_owned());
        assert_eq!(answers, [Ok(1), refused("169.254.169.254"), refused("::ffff:169.254.169.254"), Ok(2)]);
    }
}
