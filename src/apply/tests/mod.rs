//! The real `apply` over cards in the same process, in worlds from chance. What must hold is judged by
//! what reaches the cards and what is on the disk.

mod bounds;
mod properties;
mod readers;
mod world;
