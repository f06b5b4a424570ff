//! A filesystem that hangs.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

/// Mounts a filesystem whose server never says a word. It hangs until the file is dropped.
pub(crate) fn mount_silence(at: &Path) -> File {
    fs::create_dir_all(at).unwrap();
    let server = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .expect("FUSE is needed for this test: modprobe fuse");
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        server.as_raw_fd(),
        user.as_raw(),
        group.as_raw()
    );
    let options = CString::new(options).unwrap();
    mount("silence", at, "fuse", MountFlags::empty(), Some(&*options)).unwrap();
    server
}
