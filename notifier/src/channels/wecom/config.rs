//! A WeCom channel's own keys.

use std::path::PathBuf;

use hostbus_daemon::secret::Secret;
use serde::Deserialize;

/// The settings of a group robot of WeCom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeComConfig {
    /// The robot's webhook address.
    pub url: Option<Secret>,
    /// A file that holds it.
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub url_env: Option<String>,
}
