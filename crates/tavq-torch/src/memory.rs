//! How much memory the process has used, and whether it keeps what it frees.

/// The high-water mark of resident memory in bytes; `None` where the system does not tell (anything but Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Lets the process keep the memory of freed tensors for the next ones; true where the allocator has been told (glibc).
///
/// glibc maps every large block anew and unmaps it when it is freed, so the system clears each page of each tensor again:
/// about a fifth of the time of a VQGAN at 256 pixels. From here on freed blocks stay, and fit the next tensor of their size.
/// It is for the whole process and for good, so a program calls it where it starts; no crate does. Of large blocks it is true
/// on the first thread: what others take lies in parts of the heap that glibc shrinks in its own way.
#[allow(unsafe_code)]
pub fn keep_freed_memory() -> bool {
    // SAFETY: the shim sets two parameters of malloc and libtorch's allocator on the CPU, a static; blocks of the former
    // allocator are freed by what they carry along.
    unsafe { tavq_keep_freed_memory() }
}

/// Gives memory that was freed and kept back to the system, as far as it lies at the end of the heap or fills whole pages.
#[allow(unsafe_code)]
pub fn return_freed_memory() {
    // SAFETY: a call of malloc's own, which may come at any time.
    unsafe { tavq_return_freed_memory() }
}

#[allow(unsafe_code)]
unsafe extern "C" {
    fn tavq_keep_freed_memory() -> bool;
    fn tavq_return_freed_memory();
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
