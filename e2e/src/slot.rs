//! Which ports and which pod addresses a cluster may use, so that several run at once on one machine.

use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems pick ports for outgoing connections, so that nobody takes one by chance.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 16;
const SLOTS: u16 = 64;

/// Every slot is taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "all {SLOTS} places for local clusters are taken (ports {FIRST_PORT} and up): stop one, e.g. with `make cluster-down`"
)]
pub struct Full;

/// One of 64 places for a cluster: 16 ports on 127.0.0.1 and a /16 of loopback addresses for its pods. Whoever holds the
/// block's first port holds the slot.
#[derive(Debug)]
pub struct Slot {
    index: u16,
    _lock: TcpListener,
}

/// What the ports of a block are for.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Port {
    EtcdClient = 1,
    EtcdPeer,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kwok,
    MetricsServer,
    Operator,
    Load,
    KedaService,
    KedaAdapter,
    KedaAdapterMetrics,
}

impl Slot {
    /// Claims the first free slot.
    pub fn claim() -> Result<Self, Full> {
        (0..SLOTS).find_map(Self::try_claim).ok_or(Full)
    }

    /// A cluster that outlived its harness holds no lock but still its ports, so all of them are looked at.
    fn try_claim(index: u16) -> Option<Self> {
        let bind = |offset| TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST_PORT + index * PORTS + offset)).ok();
        let lock = bind(0)?;
        (1..PORTS)
            .all(|offset| bind(offset).is_some())
            .then_some(Self { index, _lock: lock })
    }

    /// A port of this slot on 127.0.0.1.
    pub fn port(&self, port: Port) -> u16 {
        FIRST_PORT + self.index * PORTS + port as u16
    }

    /// The pods' addresses, 127.64.0.0/16 to 127.127.0.0/16.
    pub fn pod_range(&self) -> String {
        format!("127.{}.0.0/16", 64 + self.index)
    }

    /// Whether an address belongs to this slot's pods.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        let [first, second, ..] = address.octets();
        first == 127 && u16::from(second) == 64 + self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_neither_ports_nor_addresses() {
        let (first, second) = (Slot::claim().unwrap(), Slot::claim().unwrap());
        assert_ne!(first.port(Port::ApiServer), second.port(Port::ApiServer));
        assert_ne!(first.pod_range(), second.pod_range());
        let address = second.pod_range().replace(".0.0/16", ".1.2").parse().unwrap();
        assert!(second.holds(address) && !first.holds(address));
    }

    #[test]
    fn a_slot_whose_cluster_outlived_its_harness_is_not_given_away() {
        let slot = Slot::claim().unwrap();
        let (index, port) = (slot.index, slot.port(Port::Kwok));
        drop(slot);
        let _left_running = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(Slot::try_claim(index).is_none());
    }
}
