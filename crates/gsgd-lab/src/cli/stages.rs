//! What a command is doing, said on standard error once it takes longer than a moment.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::text::say;

/// How long it is silent.
const MOMENT: Duration = Duration::from_secs(2);
/// How often a terminal is told that it goes on.
const TICK: Duration = Duration::from_millis(100);

/// The stages of a command; ends with it.
pub struct Stages {
    send: Option<Sender<String>>,
    shown: Option<JoinHandle<()>>,
}

impl Stages {
    /// Nothing is being done yet.
    pub fn begin() -> Self {
        let (send, receive) = channel::<String>();
        let shown = thread::spawn(move || {
            let mut stage = String::new();
            loop {
                match receive.recv_timeout(MOMENT) {
                    Ok(next) => stage = next,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let spinner = match std::io::stderr().is_terminal() {
                true => ProgressBar::new_spinner(),
                false => ProgressBar::hidden(),
            };
            spinner.enable_steady_tick(TICK);
            loop {
                match spinner.is_hidden() {
                    true => say(&format!("{stage} ...")),
                    false => spinner.set_message(stage),
                }
                match receive.recv() {
                    Ok(next) => stage = next,
                    Err(_) => break,
                }
            }
            spinner.finish_and_clear();
        });
        Self {
            send: Some(send),
            shown: Some(shown),
        }
    }

    /// What comes next.
    pub fn next(&self, stage: &str) {
        if let Some(send) = &self.send {
            // nobody listens any more only when the display is gone
            let _ = send.send(stage.into());
        }
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.send = None;
        if let Some(shown) = self.shown.take() {
            let _ = shown.join();
        }
    }
}
