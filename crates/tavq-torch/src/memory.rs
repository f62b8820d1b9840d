//! How much memory the process has used.

/// The high-water mark of resident memory in bytes; `None` where the system does not tell (anything but Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn rises_with_use() {
        let before = super::peak_memory().unwrap();
        let block = vec![1u8; 256 << 20];
        assert!(block.iter().map(|b| u64::from(*b)).sum::<u64>() > 0);
        let after = super::peak_memory().unwrap();
        assert!(after >= before.max(256 << 20), "{before} {after}");
    }
}
