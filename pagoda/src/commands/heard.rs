//! What one service says of itself, as far as it does: the others are shown all the same.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Error, Result, anyhow, ensure};
use tonic::{Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{channel::ServiceChannel, output::told, refusal::refusal};

/// What came of asking one service.
pub(super) struct Heard<T> {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) health: &'static str,
    pub(super) said: Result<T, Error>,
}

/// Fails with what those have to do with it that did not answer.
pub(super) fn none_silent(silent: &[Error]) -> Result<()> {
    ensure!(silent.is_empty(), "{}", silent.iter().map(told).collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// Asks a service for its health and then, unless it is silent, a question. Each has the deadline.
pub(super) async fn ask<T>(
    name: &'static str,
    address: SocketAddr,
    deadline: Duration,
    question: impl AsyncFnOnce(ServiceChannel) -> Result<Response<T>, Status>,
) -> Heard<T> {
    let silent = |error| Heard { name, address, health: "does not answer", said: Err(error) };
    let channel = match ServiceChannel::connect(name, address, deadline).await {
        Ok(channel) => channel,
        Err(error) => return silent(error),
    };
    let refused = |status: &Status| anyhow!("{name}: {}", told(&refusal(status)));
    let health = match HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await {
        Ok(reply) if reply.get_ref().status() == ServingStatus::Serving => "serving",
        Ok(_) => "not serving",
        Err(status) => return silent(refused(&status)),
    };
    let said = question(channel).await.map(Response::into_inner).map_err(|status| refused(&status));
    Heard { name, address, health, said }
}
