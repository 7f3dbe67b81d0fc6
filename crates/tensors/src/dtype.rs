//! Element types: the 22 of safetensors, and what npy adds.

use std::fmt;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal;)*) => {
        /// The type of a tensor's elements.
        ///
        /// The order of the variants is the order in which the reference writer sorts tensors (descending), so that
        /// wide elements stand first and stay aligned.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Dtype {
            $($(#[$doc])* $variant,)*
            /// Complex numbers of two 64-bit floats; npy only.
            C128,
            /// Items that are no numbers here: records, text, dates, and the two-byte items that stand for bfloat16
            /// when numpy saves an array of `ml_dtypes`; npy only.
            Opaque {
                /// Length of one item in bytes.
                len_bytes: u32,
            },
        }

        impl Dtype {
            /// The 22 types of safetensors, in the writer's order.
            pub const SAFETENSORS: &[Self] = &[$(Self::$variant),*];

            /// Width of one element in bits.
            #[must_use]
            pub const fn bits(self) -> u64 {
                match self {
                    $(Self::$variant => $bits,)*
                    Self::C128 => 128,
                    Self::Opaque { len_bytes } => 8 * len_bytes as u64,
                }
            }

            /// The name as a safetensors header spells it; `C128` and `opaque` for what safetensors does not know.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::C128 => "C128",
                    Self::Opaque { .. } => "opaque",
                }
            }

            /// The type that a safetensors header means by `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool "BOOL" 8;
    /// Microscaling 4-bit float, E2M1.
    F4 "F4" 4;
    /// Microscaling 6-bit float, E2M3.
    F6E2M3 "F6_E2M3" 6;
    /// Microscaling 6-bit float, E3M2.
    F6E3M2 "F6_E3M2" 6;
    /// Unsigned byte.
    U8 "U8" 8;
    /// Signed byte.
    I8 "I8" 8;
    /// 8-bit float, E5M2, with infinities.
    F8E5M2 "F8_E5M2" 8;
    /// 8-bit float, E4M3, finite but for one NaN of each sign.
    F8E4M3 "F8_E4M3" 8;
    /// Microscaling scale: a power of two without a sign.
    F8E8M0 "F8_E8M0" 8;
    /// 8-bit float, E4M3, one NaN and no negative zero.
    F8E4M3Fnuz "F8_E4M3FNUZ" 8;
    /// 8-bit float, E5M2, one NaN and no negative zero.
    F8E5M2Fnuz "F8_E5M2FNUZ" 8;
    /// Signed 16-bit integer.
    I16 "I16" 16;
    /// Unsigned 16-bit integer.
    U16 "U16" 16;
    /// IEEE half precision.
    F16 "F16" 16;
    /// The upper half of a single.
    Bf16 "BF16" 16;
    /// Signed 32-bit integer.
    I32 "I32" 32;
    /// Unsigned 32-bit integer.
    U32 "U32" 32;
    /// IEEE single precision.
    F32 "F32" 32;
    /// Complex numbers of two singles.
    C64 "C64" 64;
    /// IEEE double precision.
    F64 "F64" 64;
    /// Signed 64-bit integer.
    I64 "I64" 64;
    /// Unsigned 64-bit integer.
    U64 "U64" 64;
}

impl Dtype {
    /// Length of one element in bytes, for types of whole bytes.
    #[must_use]
    pub const fn len_bytes(self) -> Option<u64> {
        let bits = self.bits();
        if bits.is_multiple_of(8) { Some(bits / 8) } else { None }
    }

    /// The address multiple that a plain load of one element wants, in bytes; 1 for sub-byte and opaque types.
    #[must_use]
    pub const fn alignment(self) -> u64 {
        match self {
            Self::Opaque { .. } => 1,
            Self::C64 => 4,
            Self::C128 => 8,
            other => match other.len_bytes() {
                Some(len) => len,
                None => 1,
            },
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
