//! The element types and their exact scalar conversions: the reference for every vectorised one.

use std::fmt;

/// A floating-point storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
    /// 4 exponent bits, no infinities, NaN at `0x7f` and `0xff` (OCP "e4m3", also written e4m3fn).
    F8E4M3,
    /// 5 exponent bits, IEEE-like (OCP "e5m2").
    F8E5M2,
    /// e4m3 with one more step of bias, no infinities, no negative zero, NaN at `0x80`.
    F8E4M3Fnuz,
    /// e5m2 with one more step of bias, no infinities, no negative zero, NaN at `0x80`.
    F8E5M2Fnuz,
}

/// What the codes beyond the finite numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Specials {
    /// The top exponent holds infinities and NaN.
    Ieee,
    /// Only the all-ones code is NaN; the rest of the top exponent is finite.
    OneNan,
    /// Only negative zero is NaN.
    NegativeZeroIsNan,
}

/// The parameters from which everything about a format follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) exponent_bits: u32,
    pub(crate) fraction_bits: u32,
    pub(crate) bias: i32,
    pub(crate) specials: Specials,
}

impl Format {
    const fn new(exponent_bits: u32, fraction_bits: u32, bias: i32, specials: Specials) -> Self {
        Self { exponent_bits, fraction_bits, bias, specials }
    }

    /// The bits without the sign.
    pub(crate) const fn magnitude_mask(self) -> u64 {
        (1 << (self.exponent_bits + self.fraction_bits)) - 1
    }

    /// The smallest normal number's bits.
    pub(crate) const fn min_normal_bits(self) -> u64 {
        1 << self.fraction_bits
    }

    /// The smallest magnitude (as bits) that is not a finite number. For fnuz formats none is.
    pub(crate) const fn first_nonfinite_bits(self) -> u64 {
        match self.specials {
            Specials::Ieee => ((1 << self.exponent_bits) - 1) << self.fraction_bits,
            Specials::OneNan => self.magnitude_mask(),
            Specials::NegativeZeroIsNan => self.magnitude_mask() + 1,
        }
    }
}

impl Dtype {
    /// Every format, widest first.
    pub const ALL: [Self; 8] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F8E4M3,
        Self::F8E5M2,
        Self::F8E4M3Fnuz,
        Self::F8E5M2Fnuz,
    ];

    /// Bytes that one element takes.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E4M3Fnuz | Self::F8E5M2Fnuz => 1,
        }
    }

    pub(crate) const fn format(self) -> Format {
        match self {
            Self::F64 => Format::new(11, 52, 1023, Specials::Ieee),
            Self::F32 => Format::new(8, 23, 127, Specials::Ieee),
            Self::F16 => Format::new(5, 10, 15, Specials::Ieee),
            Self::Bf16 => Format::new(8, 7, 127, Specials::Ieee),
            Self::F8E4M3 => Format::new(4, 3, 7, Specials::OneNan),
            Self::F8E5M2 => Format::new(5, 2, 15, Specials::Ieee),
            Self::F8E4M3Fnuz => Format::new(4, 3, 8, Specials::NegativeZeroIsNan),
            Self::F8E5M2Fnuz => Format::new(5, 2, 16, Specials::NegativeZeroIsNan),
        }
    }

    /// Bits of the significand, the implicit one included: 53, 24, 11, 8, 4 or 3.
    #[must_use]
    pub const fn precision_bits(self) -> u32 {
        self.format().fraction_bits + 1
    }

    /// The smallest positive normal number.
    #[must_use]
    pub fn min_normal(self) -> f64 {
        power_of_two(1 - self.format().bias)
    }

    /// The smallest positive number, which is the spacing of the subnormal numbers.
    #[must_use]
    pub fn min_subnormal(self) -> f64 {
        let format = self.format();
        power_of_two(1 - format.bias - format.fraction_bits.cast_signed())
    }

    /// The value that a code stands for; exact.
    ///
    /// Bits above the format's width are ignored. A NaN loses its payload.
    #[must_use]
    pub fn decode(self, bits: u64) -> f64 {
        if self == Self::F64 {
            return f64::from_bits(bits);
        }
        let format = self.format();
        let magnitude = bits & format.magnitude_mask();
        let negative = bits >> (format.exponent_bits + format.fraction_bits) & 1 == 1;
        let sign = if negative { -1.0 } else { 1.0 };
        if format.specials == Specials::NegativeZeroIsNan && negative && magnitude == 0 {
            return f64::NAN;
        }
        if magnitude >= format.first_nonfinite_bits() {
            let infinite = format.specials == Specials::Ieee && magnitude == format.first_nonfinite_bits();
            return if infinite { sign * f64::INFINITY } else { f64::NAN };
        }
        let fraction = magnitude & (format.min_normal_bits() - 1);
        let exponent = i32::try_from(magnitude >> format.fraction_bits).unwrap_or(i32::MAX);
        let (significand, exponent) =
            if exponent == 0 { (fraction, 1) } else { (fraction | format.min_normal_bits(), exponent) };
        sign * significand as f64 * power_of_two(exponent - format.bias - format.fraction_bits.cast_signed())
    }

    /// The nearest code, ties to even. Beyond the largest number: infinity, or NaN where there is none.
    #[must_use]
    pub fn encode(self, value: f64) -> u64 {
        if self == Self::F64 {
            return value.to_bits();
        }
        let format = self.format();
        let sign_bit = 1u64 << (format.exponent_bits + format.fraction_bits);
        let no_negative_zero = format.specials == Specials::NegativeZeroIsNan;
        let sign = if value.is_sign_negative() { sign_bit } else { 0 };
        if value.is_nan() {
            return match format.specials {
                Specials::Ieee => sign | format.first_nonfinite_bits() | format.min_normal_bits() >> 1,
                Specials::OneNan => sign | format.magnitude_mask(),
                Specials::NegativeZeroIsNan => sign_bit,
            };
        }
        let beyond = match format.specials {
            Specials::NegativeZeroIsNan => sign_bit,
            _ => sign | format.first_nonfinite_bits(),
        };
        if value.is_infinite() {
            return beyond;
        }
        let magnitude = value.abs();
        // The step of the format at this magnitude; dividing by a power of two is exact here, because no
        // format but f64 has a step below 2^-149.
        let exponent = i32::try_from(magnitude.to_bits() >> 52).unwrap_or(0) - 1023;
        let step_exponent = exponent.max(1 - format.bias) - format.fraction_bits.cast_signed();
        let steps = (magnitude * power_of_two(-step_exponent)).round_ties_even();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer below 2^25")]
        let steps = steps as u64;
        if steps == 0 {
            return if no_negative_zero { 0 } else { sign };
        }
        // Counting codes from the first code of this binade carries into the next binade by itself.
        let binade = u64::try_from(exponent.max(1 - format.bias) + format.bias - 1).unwrap_or(0);
        let code = (binade << format.fraction_bits) + steps;
        if code >= format.first_nonfinite_bits() { beyond } else { sign | code }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F8E4M3 => "f8_e4m3",
            Self::F8E5M2 => "f8_e5m2",
            Self::F8E4M3Fnuz => "f8_e4m3fnuz",
            Self::F8E5M2Fnuz => "f8_e5m2fnuz",
        })
    }
}

/// 2^exponent, exact over the whole range of float64, its subnormal numbers included.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        ..-1074 => 0.0,
        -1074..-1022 => f64::from_bits(1 << (exponent + 1074)),
        -1022..1024 => f64::from_bits(u64::from((exponent + 1023).cast_unsigned()) << 52),
        1024.. => f64::INFINITY,
    }
}
