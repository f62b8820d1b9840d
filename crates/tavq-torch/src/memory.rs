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
/// It is for the whole process and for good, so a program calls it where it starts; no crate does.
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

    #[test]
    fn kept_memory_is_used_again_and_returned() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap().to_owned();
            line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() << 10
        };
        let block = || tch::Tensor::ones([64 << 20], (tch::Kind::Uint8, tch::Device::Cpu));
        let early = block();
        if !super::keep_freed_memory() {
            eprintln!("not run: the allocator cannot be told");
            return;
        }
        let first = block();
        let place = first.data_ptr();
        assert_eq!(place as usize % 64, 0);
        drop(first);
        let kept = resident();
        let second = block();
        assert_eq!(second.data_ptr(), place);
        assert_eq!(second.sum(tch::Kind::Int64).int64_value(&[]), 64 << 20);
        drop((early, second));
        super::return_freed_memory();
        assert!(resident() + (60 << 20) < kept, "{} of {kept}", resident());
    }
}
