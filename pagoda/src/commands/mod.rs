//! What each command does, one file a command.

pub(crate) mod compare;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod evaluate;
pub(crate) mod generate;
pub(crate) mod generations;
mod heard;
pub(crate) mod import;
pub(crate) mod mine;
pub(crate) mod models;
pub(crate) mod publish;
pub(crate) mod recall;
pub(crate) mod refresh;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod train;
pub(crate) mod up;
