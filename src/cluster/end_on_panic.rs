//! [`EndOnPanic`]: a node whose bus has panicked must not go on.

/// Ends the process if it is dropped by a panic. The runtime would catch the panic of a task, and the node would
/// go on without hearing the others: its clients would see gaps and ghosts.
#[derive(Debug)]
pub(crate) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "cluster.thread.panicked: the process ends so that its clients go to other nodes; process.panicked \
                 names the bug's place"
            );
            std::process::abort();
        }
    }
}
