//! What a person sees of a long run: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of one piece of work.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    done: u64,
    from: u64,
    start: Instant,
    printed: u64,
    quiet: bool,
}

impl Progress {
    /// Starts at `from` of `total`. `quiet` shows nothing.
    pub fn new(what: &str, from: u64, total: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total).with_position(from).with_prefix(what.to_owned());
            if let Ok(style) =
                ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} elapsed, {eta} left")
            {
                bar.set_style(style);
            }
            bar.reset_eta();
            bar
        });
        Self { bar, what: what.to_owned(), total, done: from, from, start: Instant::now(), printed: 0, quiet }
    }

    /// `done` of the total are done; `message` makes the text beside the bar, when one is shown.
    pub fn set(&mut self, done: u64, message: impl Fn() -> String) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
            return;
        }
        // Twenty lines for the whole of it, in a log file.
        let part = (done * 20).checked_div(self.total).unwrap_or(20);
        if !self.quiet && part > self.printed {
            self.printed = part;
            let seconds = self.start.elapsed().as_secs_f64();
            let rate = (done - self.from) as f64 / seconds.max(1e-9);
            let left = (self.total - done) as f64 / rate.max(1e-9);
            eprintln!("{} {done}/{} {} {seconds:.0}s elapsed, {left:.0}s left", self.what, self.total, message());
        }
    }

    /// Shows a line without breaking the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if !self.quiet => eprintln!("{line}"),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
