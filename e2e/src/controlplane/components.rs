//! The processes of a control plane and their flags.

use std::path::Path;

use super::Options;
use crate::certs::{Authority, Error, Identity, Pair, write_kubeconfig};
use crate::slot::{Port, Slot};
use crate::tools::Tool;

/// Issuer of ServiceAccount tokens.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// What kwok plays, written by us.
const STAGES: [&str; 4] = [
    include_str!("../../kwok/nodes.yaml"),
    include_str!("../../kwok/pods.yaml"),
    include_str!("../../kwok/faults.yaml"),
    include_str!("../../kwok/usage.yaml"),
];
/// Copies annotations of a namespace to its pods.
pub(super) const POD_ANNOTATIONS: &str = include_str!("../../kwok/annotate-pods.yaml");
const METRICS_API: &str = include_str!("../../controlplane/metrics-server.yaml");
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// Certificates, keys and kubeconfigs that the flags below refer to.
#[derive(Debug)]
pub(super) struct Credentials {
    root: String,
    server: Pair,
    service_accounts: Pair,
    front_proxy: Pair,
}

impl Credentials {
    /// Writes everything below `folder`: `pki/` and one kubeconfig per client.
    pub(super) fn create(folder: &Path, slot: &Slot) -> Result<Self, Error> {
        let authority = Authority::new(&folder.join("pki"))?;
        let names = [
            "localhost",
            "127.0.0.1",
            "10.0.0.1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let clients = [
            ("admin", "tiercel-e2e-admin", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kwok", "system:kwok", Some("system:masters")),
            ("metrics-server", "system:metrics-server", Some("system:masters")),
        ];
        for (file, user, group) in clients {
            let pair = authority.client(file, user, group)?;
            let path = kubeconfig(folder, file);
            write_kubeconfig(
                Path::new(&path),
                &server_url(slot),
                &authority.root(),
                Identity::Certificate(&pair),
            )?;
        }
        Ok(Self {
            root: text(&authority.root()),
            server: authority.server("server", &names)?,
            service_accounts: authority.signing_keys("service-accounts")?,
            front_proxy: authority.client("front-proxy", "front-proxy", None)?,
        })
    }
}

/// Address of the API server.
pub(super) fn server_url(slot: &Slot) -> String {
    format!("https://127.0.0.1:{}", slot.port(Port::ApiServer))
}

/// Path of the kubeconfig of one client.
pub(super) fn kubeconfig(folder: &Path, client: &str) -> String {
    text(&folder.join(format!("{client}.kubeconfig")))
}

/// The objects that announce metrics-server.
pub(super) fn metrics_api(slot: &Slot) -> String {
    METRICS_API.replace("${METRICS_SERVER_PORT}", &slot.port(Port::MetricsServer).to_string())
}

/// Files that the processes read, beside certificates.
pub(super) fn files(folder: &Path) -> [(std::path::PathBuf, String); 2] {
    [
        (folder.join("kwok.yaml"), STAGES.join("---\n")),
        (folder.join("audit-policy.yaml"), AUDIT_POLICY.to_owned()),
    ]
}

/// Tool, flags; in start order.
pub(super) fn all(
    folder: &Path,
    slot: &Slot,
    credentials: &Credentials,
    options: &Options,
) -> Vec<(Tool, Vec<String>)> {
    let mut all = vec![
        (Tool::Etcd, etcd(folder, slot)),
        (Tool::ApiServer, api_server(folder, slot, credentials, options)),
        (Tool::ControllerManager, controller_manager(folder, slot, credentials)),
        (Tool::Scheduler, scheduler(folder, slot)),
        (Tool::Kwok, kwok(folder, slot, credentials)),
    ];
    if options.metrics_server {
        all.push((Tool::MetricsServer, metrics_server(folder, slot)));
    }
    all
}

fn etcd(folder: &Path, slot: &Slot) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", slot.port(Port::EtcdClient));
    let peer = format!("http://127.0.0.1:{}", slot.port(Port::EtcdPeer));
    vec![
        "--name=node0".into(),
        format!("--data-dir={}", text(&folder.join("etcd"))),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=node0={peer}"),
        // The data does not outlive the run: durability would only cost time.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(folder: &Path, slot: &Slot, credentials: &Credentials, options: &Options) -> Vec<String> {
    let Credentials {
        root,
        server,
        service_accounts,
        front_proxy,
    } = credentials;
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", slot.port(Port::EtcdClient)),
        "--allow-privileged=true".into(),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        // Endpoints may not hold loopback addresses, the server's own included.
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={}", slot.port(Port::ApiServer)),
        format!("--tls-cert-file={}", text(&server.cert)),
        format!("--tls-private-key-file={}", text(&server.key)),
        format!("--client-ca-file={root}"),
        "--authorization-mode=Node,RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/16".into(),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-key-file={}", text(&service_accounts.cert)),
        format!("--service-account-signing-key-file={}", text(&service_accounts.key)),
        format!("--proxy-client-cert-file={}", text(&front_proxy.cert)),
        format!("--proxy-client-key-file={}", text(&front_proxy.key)),
        format!("--requestheader-client-ca-file={root}"),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!("--cert-dir={}", text(&folder.join("apiserver"))),
    ];
    if options.audit {
        args.push(format!(
            "--audit-policy-file={}",
            text(&folder.join("audit-policy.yaml"))
        ));
        args.push(format!("--audit-log-path={}", text(&folder.join("audit.log"))));
        // Rotation would hide requests from whoever counts them.
        args.push("--audit-log-maxsize=0".into());
    }
    if let Some((reads, writes)) = options.inflight {
        args.push(format!("--max-requests-inflight={reads}"));
        args.push(format!("--max-mutating-requests-inflight={writes}"));
    }
    args
}

fn controller_manager(folder: &Path, slot: &Slot, credentials: &Credentials) -> Vec<String> {
    let mut args = kubeconfigs(folder, "controller-manager");
    args.extend([
        // The API server refuses loopback addresses in Endpoints and EndpointSlices, and the pods have no others.
        "--controllers=*,-endpointslice-controller,-endpoints-controller".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", slot.port(Port::ControllerManager)),
        "--leader-elect=false".into(),
        format!("--root-ca-file={}", credentials.root),
        format!(
            "--service-account-private-key-file={}",
            text(&credentials.service_accounts.key)
        ),
        "--use-service-account-credentials=true".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        format!("--cert-dir={}", text(&folder.join("controller-manager"))),
    ]);
    args
}

fn scheduler(folder: &Path, slot: &Slot) -> Vec<String> {
    let mut args = kubeconfigs(folder, "scheduler");
    args.extend([
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", slot.port(Port::Scheduler)),
        "--leader-elect=false".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        format!("--cert-dir={}", text(&folder.join("scheduler"))),
    ]);
    args
}

fn kwok(folder: &Path, slot: &Slot, credentials: &Credentials) -> Vec<String> {
    let port = slot.port(Port::Kwok);
    vec![
        format!("--kubeconfig={}", kubeconfig(folder, "kwok")),
        format!("--config={}", text(&folder.join("kwok.yaml"))),
        "--manage-all-nodes=true".into(),
        format!("--cidr={}", slot.pod_range()),
        "--node-ip=127.0.0.1".into(),
        format!("--node-port={port}"),
        format!("--server-address=127.0.0.1:{port}"),
        format!("--tls-cert-file={}", text(&credentials.server.cert)),
        format!("--tls-private-key-file={}", text(&credentials.server.key)),
        "--node-lease-duration-seconds=40".into(),
    ]
}

fn metrics_server(folder: &Path, slot: &Slot) -> Vec<String> {
    let mut args = kubeconfigs(folder, "metrics-server");
    args.extend([
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", slot.port(Port::MetricsServer)),
        format!("--cert-dir={}", text(&folder.join("metrics-server"))),
        "--kubelet-use-node-status-port".into(),
        "--kubelet-insecure-tls".into(),
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".into(),
        // It refuses less than its request timeout of 10 s.
        "--metric-resolution=15s".into(),
    ]);
    args
}

fn kubeconfigs(folder: &Path, client: &str) -> Vec<String> {
    let path = kubeconfig(folder, client);
    ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map(|flag| format!("--{flag}={path}"))
        .into()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
