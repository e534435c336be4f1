//! A password agent as systemd describes it (<https://systemd.io/PASSWORD_AGENTS/>): it watches the
//! directory of questions and answers one, as a person at the console would.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use virtual_card::PATIENCE;

const QUESTIONS: &str = "run/systemd/ask-password";

/// The fields of a question: `Message`, `Id`, `AcceptCached`, `Echo`, `NotAfter` and so on.
pub type Question = BTreeMap<String, String>;

/// Somebody who waits for one question of one id (an empty one: of none), or for several; gone when
/// dropped. Questions of other ids are left to other agents, so that tests run side by side.
pub struct Agent {
    asked: Receiver<Question>,
    stop: Option<UnixDatagram>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Answers with `text`.
    pub fn answer(id: &str, text: &str) -> Self {
        Self::answer_at(Path::new("/"), id, text)
    }

    /// The same on the machine whose files are at `root`.
    pub fn answer_at(root: &Path, id: &str, text: &str) -> Self {
        Self::start(root, id, "", vec![Some(format!("+{text}"))])
    }

    /// Answers one question after the other.
    pub fn answer_each(id: &str, texts: &[&str]) -> Self {
        let replies = texts.iter().map(|text| Some(format!("+{text}"))).collect();
        Self::start(Path::new("/"), id, "", replies)
    }

    /// Declines to answer, as the escape key does.
    pub fn decline(id: &str) -> Self {
        Self::decline_where(id, "")
    }

    /// The same, of a question with `part` in its message.
    pub fn decline_where(id: &str, part: &str) -> Self {
        Self::start(Path::new("/"), id, part, vec![Some("-".into())])
    }

    /// Sees the question and says nothing.
    pub fn ignore(id: &str) -> Self {
        Self::start(Path::new("/"), id, "", vec![None])
    }

    /// The question that was asked; waits for it.
    pub fn question(&self) -> Question {
        self.asked.recv_timeout(PATIENCE).expect("a question")
    }

    /// So many questions that were asked; waits for them.
    pub fn questions(&self, count: usize) -> Vec<Question> {
        (0..count).map(|_| self.question()).collect()
    }

    /// The question, if it was asked so far.
    pub fn asked(&self) -> Option<Question> {
        self.asked.try_recv().ok()
    }

    fn start(root: &Path, id: &str, part: &str, replies: Vec<Option<String>>) -> Self {
        let questions = root.join(QUESTIONS);
        fs::create_dir_all(&questions).unwrap();
        let watch = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        // Watched from before this returns: no question that comes later is missed.
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        watch.add_watch(&questions, flags).unwrap();
        let (stop, stopped) = UnixDatagram::pair().unwrap();
        let (found, asked) = channel();
        let (id, part, root) = (id.to_owned(), part.to_owned(), root.to_owned());
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            for reply in replies {
                let question = wait_for(&questions, (&id, &part), &mut seen, &watch, &stopped);
                let Some(question) = question else { return };
                if let Some(reply) = reply {
                    let socket = UnixDatagram::unbound().unwrap();
                    let address = root.join(question["Socket"].trim_start_matches('/'));
                    socket.send_to(reply.as_bytes(), address).unwrap();
                }
                // Nobody may want to know.
                drop(found.send(question));
            }
        });
        Self { asked, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let stop = self.stop.take().unwrap();
        drop(stop.send(b"stop"));
        drop(self.thread.take().unwrap().join());
    }
}

/// The next question of an id, with this part in its message; `None` where the agent was dropped
/// before it came.
fn wait_for(
    questions: &Path,
    (id, part): (&str, &str),
    seen: &mut BTreeSet<PathBuf>,
    watch: &Inotify,
    stopped: &UnixDatagram,
) -> Option<Question> {
    loop {
        for entry in fs::read_dir(questions).unwrap().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with("ask.") && !seen.contains(&path) {
                let question = read(&path);
                let is_ours = question.get("Id").map_or("", String::as_str) == id;
                if is_ours && question.get("Message").is_some_and(|text| text.contains(part)) {
                    seen.insert(path);
                    return Some(question);
                }
            }
        }
        let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [of(watch.as_fd()), of(stopped.as_fd())];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        if fds[1].any().unwrap() {
            return None;
        }
        watch.read_events().unwrap();
    }
}

/// A question's fields; none where it has been taken back meanwhile.
fn read(path: &Path) -> Question {
    let text = fs::read_to_string(path).unwrap_or_default();
    let field = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    text.lines().filter_map(|line| line.split_once('=')).map(field).collect()
}
