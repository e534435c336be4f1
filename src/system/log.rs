//! Log lines on standard error: with priorities for the journal, plain and short for people.

use std::{env, fmt, io, io::IsTerminal};

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Starts logging: `verbosity` 0 says what an operator wants to know, 1 also why (debug), 2 and
/// more also each step (trace). A second call changes nothing.
pub fn init(verbosity: u8) {
    let level = match verbosity {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .event_format(Lines(Style::of_stderr()))
        .finish();
    // Only the first call can succeed; the rest find what they want in place.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// How a line is dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `<priority>` before each line; the journal adds the time.
    Journal,
    /// "error:" and "warning:".
    Plain,
    /// The same, coloured.
    Coloured,
}

impl Style {
    fn of_stderr() -> Self {
        let variable = |name| env::var(name).unwrap_or_default();
        let file = fstat(io::stderr())
            .map_or_else(|_| String::new(), |found| format!("{}:{}", found.st_dev, found.st_ino));
        Self::of(
            // The variable is inherited, also by a shell whose output goes elsewhere.
            !file.is_empty() && variable("JOURNAL_STREAM") == file,
            io::stderr().is_terminal(),
            &variable("NO_COLOR"),
            &variable("TERM"),
        )
    }

    fn of(journal: bool, terminal: bool, no_color: &str, term: &str) -> Self {
        match (journal, terminal) {
            (true, _) => Self::Journal,
            (false, true) if no_color.is_empty() && term != "dumb" => Self::Coloured,
            _ => Self::Plain,
        }
    }

    /// What stands before and after the words of a line of `level`.
    fn around(self, level: Level) -> (&'static str, &'static str) {
        match (self, level) {
            (Self::Journal, Level::ERROR) => ("<3>", ""),
            (Self::Journal, Level::WARN) => ("<4>", ""),
            (Self::Journal, Level::INFO) => ("<6>", ""),
            (Self::Journal, _) => ("<7>", ""),
            (Self::Plain, Level::ERROR) => ("error: ", ""),
            (Self::Plain, Level::WARN) => ("warning: ", ""),
            (Self::Coloured, Level::ERROR) => ("\x1b[1;31merror:\x1b[0m ", ""),
            (Self::Coloured, Level::WARN) => ("\x1b[1;33mwarning:\x1b[0m ", ""),
            (Self::Coloured, Level::DEBUG | Level::TRACE) => ("\x1b[2m", "\x1b[0m"),
            (Self::Plain | Self::Coloured, _) => ("", ""),
        }
    }
}

/// Formats events as lines of a style.
struct Lines(Style);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let (before, after) = self.0.around(*event.metadata().level());
        for line in text.lines() {
            // Names of readers and cards come from outside: they must not steer a terminal, nor
            // forge the priority of a line.
            let clean: String =
                line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            writeln!(writer, "{before}{clean}{after}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .event_format(Lines(style))
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn one_of_each() {
        tracing::error!("no card");
        tracing::warn!(reader = "Yubico", "still waiting");
        tracing::info!("key vault: unchanged");
        tracing::debug!("select");
        tracing::trace!("90 00");
    }

    #[test]
    fn the_journal_gets_priorities() {
        expect_test::expect![[r#"
            <3>no card
            <4>still waiting reader="Yubico"
            <6>key vault: unchanged
            <7>select
            <7>90 00
        "#]]
        .assert_eq(&logged(Style::Journal, one_of_each));
    }

    #[test]
    fn people_get_words() {
        expect_test::expect![[r#"
            error: no card
            warning: still waiting reader="Yubico"
            key vault: unchanged
            select
            90 00
        "#]]
        .assert_eq(&logged(Style::Plain, one_of_each));
    }

    #[test]
    fn colours_add_nothing_but_colour() {
        let coloured = logged(Style::Coloured, one_of_each);
        assert!(coloured.starts_with("\x1b[1;31merror:\x1b[0m no card\n"));
        let mut plain = coloured;
        for code in ["\x1b[1;31m", "\x1b[1;33m", "\x1b[2m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, logged(Style::Plain, one_of_each));
    }

    #[test]
    fn a_name_from_outside_forges_nothing() {
        let text = logged(Style::Journal, || {
            tracing::info!("reader {}", "a\n<0>panic\r\x1b[2J\x07b");
        });
        for line in text.lines() {
            assert!(line.starts_with("<6>"), "{text:?}");
            assert!(!line.contains(|c: char| c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn colour_is_only_for_terminals_that_want_it() {
        assert_eq!(Style::of(false, true, "", "xterm"), Style::Coloured);
        assert_eq!(Style::of(false, true, "", ""), Style::Coloured);
        assert_eq!(Style::of(false, true, "1", "xterm"), Style::Plain);
        assert_eq!(Style::of(false, true, "", "dumb"), Style::Plain);
        assert_eq!(Style::of(false, false, "", "xterm"), Style::Plain);
        assert_eq!(Style::of(true, true, "", "xterm"), Style::Journal);
    }
}
