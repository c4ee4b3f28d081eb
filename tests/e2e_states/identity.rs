//! Who the operator is, and whom it trusts, is replaced while it runs: tokens, client certificates, the API server's own certificate.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use super::servers;
use super::support::hands::{ORDER, assert_done, settled, up};
use super::support::plane::OwnPlane;
use super::support::{Setup, World};

/// Longer than it takes a process to be sure that it is not welcome any more.
const PATIENCE: Duration = Duration::from_secs(240);

/// The account that the operator's kubeconfig is of.
async fn account(world: &World) -> String {
    let path = "jsonpath={.items[0].subjects[0].name}";
    assert_done(world, &["get", "rolebindings", "-n", &world.provider, "-o", path]).await
}

/// A token that is good for as long as a Secret of this name is there.
async fn token(world: &World, secret: &str) -> String {
    let made = world.create(&world.system, super::support::objects::secret(secret, &json!({"held": "a token"}))).await;
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Secret".into()),
        name: Some(secret.into()),
        uid: Some(made["metadata"]["uid"].as_str().unwrap().into()),
    };
    let spec = TokenRequestSpec { audiences: Vec::new(), bound_object_ref: Some(bound), expiration_seconds: Some(7200) };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(world.kube.clone(), &world.system);
    let answer = accounts.create_token_request(&account(world).await, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token
}

/// Puts another user into a kubeconfig.
fn write_user(kubeconfig: &Path, user: Value) {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    config["users"][0]["user"] = user;
    std::fs::write(kubeconfig, serde_yaml::to_string(&config).unwrap()).unwrap();
}

/// Waits until the operator ends by itself.
async fn until_ended(world: &mut World) -> ExitStatus {
    let mut operator = world.operator.take().unwrap();
    let began = Instant::now();
    loop {
        if let Some(status) = operator.exited() {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "the operator goes on:\n{}", world.log.tail(40));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_taken_up_by_the_running_process() {
    let mut world = World::start(Setup { run: false, ..Setup::default() }).await;
    let file = world.launch.kubeconfig.with_extension("token");
    std::fs::write(&file, token(&world, "first").await).unwrap();
    write_user(&world.launch.kubeconfig, json!({"tokenFile": file.to_str().unwrap()}));
    up(&mut world).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let pid = world.operator.as_ref().unwrap().pid();
    // As kubelet does it, but that the old one is not good for a moment longer.
    std::fs::write(&file, token(&world, "second").await).unwrap();
    let system = world.system.clone();
    assert_done(&world, &["delete", "secret", "first", "-n", &system]).await;
    world.patch(ORDER, "web-01", &json!({"spec": {"domain": "other.example.net"}})).await;
    let changed = settled(&mut world, "web-01", "Active").await;
    assert_eq!(changed["status"]["server"]["domain"], "other.example.net");
    assert_eq!(world.operator.as_ref().unwrap().pid(), pid, "the process is the same");
    assert_eq!(world.server(17)["installed"]["times"], 1);
    std::fs::remove_file(file).unwrap();
    world.end().await;
}

/// A key and a certificate of the plane's authority, as PEM.
fn certificate(dir: &Path, name: &str, usage: ExtendedKeyUsagePurpose, good_for: Duration) -> (String, String) {
    let pem = std::fs::read_to_string(dir.join("pki/ca.key")).unwrap();
    issued("dci-operator-local", &KeyPair::from_pem(&pem).unwrap(), name, usage, good_for)
}

fn issued(authority: &str, by: &KeyPair, name: &str, usage: ExtendedKeyUsagePurpose, good_for: Duration) -> (String, String) {
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name.push(DnType::CommonName, authority);
    let issuer = Issuer::new(issuer, by);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    params.extended_key_usages = vec![usage];
    params.not_before = (std::time::SystemTime::now() - Duration::from_secs(60)).into();
    params.not_after = (std::time::SystemTime::now() + good_for).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (key.serialize_pem(), certificate.pem())
}

/// Lets a kubeconfig name a file for the authority that the server's certificate is checked by.
fn write_authority(kubeconfig: &Path, file: &Path) {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    let cluster = config["clusters"][0]["cluster"].as_object_mut().unwrap();
    cluster.remove("certificate-authority-data");
    cluster.insert("certificate-authority".into(), file.to_str().unwrap().into());
    std::fs::write(kubeconfig, serde_yaml::to_string(&config).unwrap()).unwrap();
}

/// What stands in a file is read at the start only. A process that nobody knows any more, or that knows nobody, ends and says why: in a
/// cluster it is started again then, and reads the new ones.
#[tokio::test]
#[ignore = "waits twice for the minute that a token in a file may take: `make states` runs it"]
async fn certificates_that_are_replaced_end_the_process_and_the_next_one_takes_them_up() {
    let Some(own) = OwnPlane::start("certificates") else { return };
    let dir = own.plane.dir.clone();
    let (ca, trusted) = (dir.join("pki/ca.crt"), dir.join("trusted.crt"));
    servers::stop(&own).with("--client-ca-file", ca.to_str().unwrap()).start(own.plane).await;
    // The administrator trusts the authority that comes later as well.
    let next = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "next");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let next_ca = params.self_signed(&next).unwrap().pem();
    let both = dir.join("both.crt");
    std::fs::write(&both, format!("{}{next_ca}", std::fs::read_to_string(&ca).unwrap())).unwrap();
    write_authority(&own.plane.kubeconfig, &both);

    let mut world = World::own_namespaces(own.plane, Setup { run: false, ..Setup::default() }).await;
    let user = format!("system:serviceaccount:{}:{}", world.system, account(&world).await);
    let (certificate_file, key_file) = (dir.join("client.crt"), dir.join("client.key"));
    let client = |good_for| {
        let (key, pem) = certificate(&dir, &user, ExtendedKeyUsagePurpose::ClientAuth, good_for);
        std::fs::write(&key_file, key).unwrap();
        std::fs::write(&certificate_file, pem).unwrap();
    };
    client(Duration::from_secs(10));
    std::fs::copy(&ca, &trusted).unwrap();
    let kubeconfig = world.launch.kubeconfig.clone();
    write_authority(&kubeconfig, &trusted);
    let files = json!({"client-certificate": certificate_file.to_str().unwrap(), "client-key": key_file.to_str().unwrap()});
    write_user(&kubeconfig, files);
    up(&mut world).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    client(Duration::from_secs(86_400));
    let ended = until_ended(&mut world).await;
    assert_eq!(ended.code(), Some(1));
    assert!(world.said("it answers 401 (Unauthorized); it ends, to read kubeconfig and certificates anew"), "{}", world.log.tail(20));
    up(&mut world).await;
    world.patch(ORDER, "web-01", &json!({"spec": {"domain": "other.example.net"}})).await;
    settled(&mut world, "web-01", "Active").await;

    let (key, pem) = issued("next", &next, "kube-apiserver", ExtendedKeyUsagePurpose::ServerAuth, Duration::from_secs(86_400));
    let (server_key, server_pem) = (dir.join("next.key"), dir.join("next.crt"));
    std::fs::write(&server_key, key).unwrap();
    std::fs::write(&server_pem, pem).unwrap();
    let stopped = servers::stop(&own).with("--tls-private-key-file", server_key.to_str().unwrap());
    stopped.with("--tls-cert-file", server_pem.to_str().unwrap()).start(own.plane).await;
    let ended = until_ended(&mut world).await;
    assert_eq!(ended.code(), Some(1));
    assert!(world.said("its certificate is not trusted"), "{}", world.log.tail(20));
    std::fs::write(&trusted, next_ca).unwrap();
    up(&mut world).await;
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}
