//! Nothing is sent into a refused network: neither to an address, nor to a name that stands for one, nor on a later connection.

use crate::support::{Server, settings};
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::denied::DeniedNetworks;
use dci_operator::panel::error::{ErrorClass, Outcome, PanelError};
use dci_operator::panel::settings::{ConnectionSettings, SettingsError};

fn refusing(url: String, networks: &str) -> ConnectionSettings {
    let mut settings = settings(url);
    settings.denied = networks.parse().unwrap();
    settings
}

#[test]
fn there_is_no_client_for_an_address_of_a_metadata_service() {
    for url in [
        "https://169.254.169.254/dcimgr",
        "https://169.254.169.254.:1500/dcimgr",
        "https://169.254.0.1:1500/dcimgr",
        "https://[fe80::a9fe:a9fe]/dcimgr",
        "https://[::ffff:169.254.169.254]/dcimgr",
        "https://[::ffff:a9fe:a9fe]/dcimgr",
        "https://[64:ff9b::169.254.169.254]/dcimgr",
        "https://[fd00:ec2::254]/dcimgr",
        "https://100.100.100.200/dcimgr",
        "https://168.63.129.16/dcimgr",
    ] {
        let refused = Client::new(&settings(url.to_owned())).map(|_| ()).unwrap_err();
        assert!(matches!(refused, SettingsError::Denied(_)), "{url}: {refused}");
        assert!(refused.to_string().contains("--denied-networks"), "{refused}");
        let allowed = Client::new(&refusing(url.to_owned(), "none")).map(|_| ());
        assert_eq!(allowed, Ok(()), "{url}: switched off");
    }
    // Spellings that two programs read in two ways are refused before.
    for url in
        ["https://2852039166/dcimgr", "https://0xa9fea9fe/dcimgr", "https://0251.0376.0251.0376/dcimgr", "https://169.254.43518/dcimgr"]
    {
        let refused = Client::new(&settings(url.to_owned())).map(|_| ()).unwrap_err();
        assert!(matches!(refused, SettingsError::Url(_)), "{url}: {refused}");
    }
}

#[tokio::test]
async fn a_name_that_stands_for_a_refused_address_is_not_connected_to() {
    let server = Server::panel(|_| crate::support::ok());
    let url = format!("http://localhost:{}/dcimgr", server.address.port());
    let ask = async |networks: &str| Client::new(&refusing(url.clone(), networks)).unwrap().change("server.enable", &Params::new()).await;
    let allowed = ask(&DeniedNetworks::default().to_string()).await.unit();
    assert_eq!(allowed, Outcome::Applied(()), "the name itself is no hindrance");
    let before = server.funcs().len();
    for networks in ["127.0.0.0/8", "10.0.0.0/8,127.0.0.1/32", "::ffff:127.0.0.0/104"] {
        let outcome = ask(networks).await.unit();
        let Outcome::Refused(error @ PanelError::AddressDenied { .. }) = &outcome else { panic!("{networks}: {outcome:?}") };
        let text = error.to_string();
        assert!(text.contains("localhost is 127.0.0.1") && text.contains("--denied-networks"), "{text}");
        assert_eq!((error.class(), error.code().as_str(), error.retryable()), (ErrorClass::Down, "AddressDenied", true));
    }
    assert_eq!(server.funcs().len(), before, "nothing was sent");
}
