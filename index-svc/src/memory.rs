//! [`Memory`]: how much generations may take, decided before they are loaded.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{config, error::IndexError};

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    bytes_max: u64,
    reserved: Arc<AtomicU64>,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: u64,
    reserved: Arc<AtomicU64>,
}

impl Memory {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, reserved: Arc::default() }
    }

    /// The budget that the settings give: so many bytes, or a share of what this process may have.
    pub fn of(settings: &config::Memory) -> Self {
        match settings.bytes_max {
            0 => Self::new((available() as f64 * settings.share) as u64),
            bytes_max => Self::new(bytes_max),
        }
    }

    /// Takes a part, or says how much is wanted and free.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, IndexError> {
        let taken = self.reserved.fetch_update(Ordering::AcqRel, Ordering::Acquire, |reserved| {
            reserved.checked_add(bytes).filter(|total| *total <= self.bytes_max)
        });
        match taken {
            Ok(_) => Ok(Reservation { bytes, reserved: self.reserved.clone() }),
            Err(reserved) => {
                let total = self.bytes_max;
                Err(IndexError::DoesNotFit { bytes, free: total.saturating_sub(reserved), total })
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The bytes that this process may have: the limit of its control group, or else the machine's.
fn available() -> u64 {
    let limit = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.into_iter().find_map(limit);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    [group, machine].into_iter().flatten().min().unwrap_or(u64::MAX)
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers_and_room_comes_back() {
        let memory = Memory::new(100);
        let first = memory.reserve(60).unwrap();
        let refused = memory.clone().reserve(41).unwrap_err();
        assert!(matches!(refused, IndexError::DoesNotFit { bytes: 41, free: 40, total: 100 }), "{refused}");
        drop(first);
        memory.reserve(100).unwrap();
    }

    #[test]
    fn the_machines_memory_is_found() {
        assert_eq!(total_of("MemFree: 1 kB\nMemTotal:       2 kB\n"), None.or(Some(2048)));
        assert!(available() > 1 << 20);
    }
}
