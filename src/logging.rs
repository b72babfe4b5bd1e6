//! `--log`: what both programs log, and where to.

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr if a filter is given; the error is for the user.
pub fn start(filter: Option<&str>) -> Result<(), String> {
    let Some(filter) = filter.filter(|f| !f.is_empty()) else {
        return Ok(());
    };
    let filter =
        EnvFilter::try_new(filter).map_err(|e| format!("--log {filter}: not a level or tracing filter: {e}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
