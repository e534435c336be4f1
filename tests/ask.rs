//! Asking a person through the real systemd-ask-password, which an agent of our own answers.

#![allow(clippy::unwrap_used)]

#[path = "support/agent.rs"]
mod agent;

use std::{
    env, fs,
    io::{IsTerminal, stdin},
    process::{Command, Stdio},
    time::Duration,
};

use agent::Agent;
use cryptkey::{error::Class, system::ask::ask};
use virtual_card::PATIENCE;

/// At a terminal the program would ask there. So where somebody runs the tests at one, the test
/// runs itself again without. True where it has done so and there is nothing left to do.
fn ran_without_terminal(test: &str) -> bool {
    if !stdin().is_terminal() {
        return false;
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    true
}

#[test]
fn an_answer_comes_back_as_it_was_given() {
    if ran_without_terminal("an_answer_comes_back_as_it_was_given") {
        return;
    }
    for (number, text) in ["123456", "", " two words ", "Größe€", "+-%n\\"].iter().enumerate() {
        let id = format!("cryptkey:test-answer-{number}");
        let agent = Agent::answer(&id, text);
        let answer = ask("PIN of card 12345678 (3 tries left)", &id, PATIENCE).unwrap();
        assert_eq!(&answer[..], text.as_bytes());
        let question = agent.question();
        assert_eq!(question["Message"], "PIN of card 12345678 (3 tries left)");
        // Nobody is offered an answer out of the kernel's keyring, nor sees what is typed.
        assert_eq!(question["AcceptCached"], "0");
        assert_eq!(question["Echo"], "0");
    }
}

#[test]
fn an_answer_never_moves_in_memory() {
    if ran_without_terminal("an_answer_never_moves_in_memory") {
        return;
    }
    let id = "cryptkey:test-buffer";
    let _agent = Agent::answer(id, "123456");
    assert_eq!(ask("PIN", id, PATIENCE).unwrap().capacity(), 1025);
}

#[test]
fn a_prompt_that_looks_like_an_option_is_a_prompt() {
    if ran_without_terminal("a_prompt_that_looks_like_an_option_is_a_prompt") {
        return;
    }
    let id = "cryptkey:test-option";
    let agent = Agent::answer(id, "x");
    ask("--no-output", id, PATIENCE).unwrap();
    assert_eq!(agent.question()["Message"], "--no-output");
}

#[test]
fn nobody_there_is_no_answer_and_takes_the_question_back() {
    if ran_without_terminal("nobody_there_is_no_answer_and_takes_the_question_back") {
        return;
    }
    let id = "cryptkey:test-nobody";
    let agent = Agent::ignore(id);
    let error = ask("PIN of card 1", id, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.class, Class::NoAnswer);
    assert!(error.found.starts_with("no answer (limit 1 s): "), "{error}");
    assert!(error.tried.contains("PIN of card 1"), "{error}");
    let socket = &agent.question()["Socket"];
    assert!(fs::metadata(socket).is_err());
}

#[test]
fn who_declines_gives_no_answer() {
    if ran_without_terminal("who_declines_gives_no_answer") {
        return;
    }
    let id = "cryptkey:test-decline";
    let _agent = Agent::decline(id);
    let error = ask("PIN", id, PATIENCE).unwrap_err();
    assert_eq!(error.class, Class::NoAnswer);
    assert_eq!(error.found, "no answer (limit 60 s): Operation canceled");
}
