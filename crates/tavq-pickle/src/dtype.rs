//! Types of the values.

/// Type of a tensor's values. Files with complex or quantized values are refused by the name of their storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// Type, the name of its storage in PyTorch, bytes of a value, short name.
const TABLE: [(Dtype, &str, u64, &str); 10] = [
    (Dtype::F64, "DoubleStorage", 8, "f64"),
    (Dtype::F32, "FloatStorage", 4, "f32"),
    (Dtype::F16, "HalfStorage", 2, "f16"),
    (Dtype::Bf16, "BFloat16Storage", 2, "bf16"),
    (Dtype::I64, "LongStorage", 8, "i64"),
    (Dtype::I32, "IntStorage", 4, "i32"),
    (Dtype::I16, "ShortStorage", 2, "i16"),
    (Dtype::I8, "CharStorage", 1, "i8"),
    (Dtype::U8, "ByteStorage", 1, "u8"),
    (Dtype::Bool, "BoolStorage", 1, "bool"),
];

impl Dtype {
    fn row(self) -> &'static (Self, &'static str, u64, &'static str) {
        // The table is in the order of the variants, which the test below holds it to.
        &TABLE[self as usize]
    }

    /// Bytes of a value.
    pub fn size(self) -> u64 {
        self.row().2
    }

    /// Short name: `f32`, `bf16`, `bool` and so on.
    pub fn name(self) -> &'static str {
        self.row().3
    }

    /// Name of the type of storage in module `torch`.
    pub(crate) fn storage(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn of_storage(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, place);
            assert_eq!(Dtype::of_storage(row.0.storage()), Some(row.0));
        }
        assert_eq!(Dtype::of_storage("ComplexFloatStorage"), None);
    }
}
