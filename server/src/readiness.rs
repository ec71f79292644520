//! Whether the process can answer: what the gRPC health service says, overall and for each service.

use metrics::{Unit, describe_gauge, gauge};
use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

const READY: &str = "grpc_server_ready";

/// A handle with which a service says whether it can answer. Not ready at first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    ready: watch::Sender<bool>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        describe_gauge!(READY, Unit::Count, "Whether the process can answer: 1, or 0.");
        show(false);
        Self { ready: watch::Sender::new(false) }
    }

    /// Says whether the process can answer. Without effect once the process drains.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// What was said last.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Keeps the health service in step; never returns.
    pub(crate) async fn follow(self, reporter: HealthReporter, services: Vec<&'static str>) {
        let mut changes = self.ready.subscribe();
        loop {
            let ready = *changes.borrow_and_update();
            report(&reporter, &services, ready).await;
            // The sender lives in `self`: this cannot fail.
            let _ = changes.changed().await;
        }
    }
}

/// Sets the health of the whole ("") and of each service, and the metric.
pub(crate) async fn report(reporter: &HealthReporter, services: &[&'static str], ready: bool) {
    show(ready);
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services.iter().copied().chain([""]) {
        reporter.set_service_status(service, status).await;
    }
}

fn show(ready: bool) {
    gauge!(READY).set(f64::from(u8::from(ready)));
}
