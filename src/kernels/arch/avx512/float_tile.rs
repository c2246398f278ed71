//! Tiles of an f32 product in the sixteen lanes of AVX-512: sums take twenty-four registers.
//!
//! Row pointers are read from memory as they are needed, which a compiler does not do: it would copy them to its stack first,
//! for each segment of K.

use super::super::float_tile::FloatTile;
use std::arch::asm;
use std::mem::offset_of;

/// Rows of a tile of one vector; one of two has half of them.
pub(super) const ROWS: usize = 24;

/// Runs the instructions of a tile, with the operands that both have.
macro_rules! run {
    ($tile:ident, $($line:expr,)*) => {
        asm!(
            $($line,)*
            c = in(reg) std::ptr::from_ref($tile),
            rows = inout(reg) $tile.rows => _,
            b = inout(reg) $tile.b => _,
            pitch = in(reg) $tile.pitch,
            at = out(reg) _,
            n = out(reg) _,
            s = out(reg) _,
            t = inout(reg) $tile.start => _,
            mask = in(reg) u32::MAX >> (32 - $tile.columns),
            count = const ROWS,
            segments = const offset_of!(FloatTile, segments),
            words = const offset_of!(FloatTile, words),
            residual = const offset_of!(FloatTile, residual),
            residual_stride = const offset_of!(FloatTile, residual_stride),
            lo = const offset_of!(FloatTile, lo),
            hi = const offset_of!(FloatTile, hi),
            out = const offset_of!(FloatTile, out),
            stride = const offset_of!(FloatTile, stride),
            out("k1") _,
            out("k2") _,
            out("zmm0") _,
            out("zmm1") _,
            out("zmm2") _,
            out("zmm3") _,
            out("zmm4") _,
            out("zmm5") _,
            out("zmm6") _,
            out("zmm7") _,
            out("zmm8") _,
            out("zmm9") _,
            out("zmm10") _,
            out("zmm11") _,
            out("zmm12") _,
            out("zmm13") _,
            out("zmm14") _,
            out("zmm15") _,
            out("zmm16") _,
            out("zmm17") _,
            out("zmm18") _,
            out("zmm19") _,
            out("zmm20") _,
            out("zmm21") _,
            out("zmm22") _,
            out("zmm23") _,
            out("zmm24") _,
            out("zmm25") _,
            out("zmm26") _,
            out("zmm27") _,
            out("zmm28") _,
            out("zmm29") _,
            options(nostack),
        )
    };
}

/// [`ROWS`] rows by one vector.
///
/// # Safety
/// The machine has AVX-512 F and BW; `tile` points to what it says.
#[inline(always)]
pub(super) unsafe fn narrow(tile: &FloatTile) {
    debug_assert!((1..=16).contains(&tile.columns));
    macro_rules! tile {
        ($($row:literal)*) => {
            run!(
                tile,
                "kmovd k1, {mask:e}",
                "vmovups zmm0, zmmword ptr [{t}]",
                $(concat!("vmovaps zmm", $row, ", zmm0"),)*
                "mov {s}, [{c} + {segments}]",
                // A segment.
                "2:",
                "xor {at:e}, {at:e}",
                "mov {n}, [{c} + {words}]",
                "sub {n}, 4",
                "jb 4f",
                // Four words of every row.
                "3:",
                "vmovups zmm24, zmmword ptr [{b}]",
                "vmovups zmm25, zmmword ptr [{b} + {pitch}]",
                "lea {b}, [{b} + 2 * {pitch}]",
                "vmovups zmm26, zmmword ptr [{b}]",
                "vmovups zmm27, zmmword ptr [{b} + {pitch}]",
                "lea {b}, [{b} + 2 * {pitch}]",
                $(
                    concat!("mov {t}, [{rows} + 8 * ", $row, "]"),
                    concat!("vfmadd231ps zmm", $row, ", zmm24, dword ptr [{t} + {at}]{{1to16}}"),
                    concat!("vfmadd231ps zmm", $row, ", zmm25, dword ptr [{t} + {at} + 4]{{1to16}}"),
                    concat!("vfmadd231ps zmm", $row, ", zmm26, dword ptr [{t} + {at} + 8]{{1to16}}"),
                    concat!("vfmadd231ps zmm", $row, ", zmm27, dword ptr [{t} + {at} + 12]{{1to16}}"),
                )*
                "add {at}, 16",
                "sub {n}, 4",
                "jae 3b",
                "4:",
                "add {n}, 4",
                "jz 6f",
                // A word of every row.
                "5:",
                "vmovups zmm24, zmmword ptr [{b}]",
                $(
                    concat!("mov {t}, [{rows} + 8 * ", $row, "]"),
                    concat!("vfmadd231ps zmm", $row, ", zmm24, dword ptr [{t} + {at}]{{1to16}}"),
                )*
                "add {at}, 4",
                "add {b}, {pitch}",
                "dec {n}",
                "jnz 5b",
                "6:",
                "add {rows}, 8 * {count}",
                "dec {s}",
                "jnz 2b",
                "mov {t}, [{c} + {residual}]",
                "test {t}, {t}",
                "jz 7f",
                "mov {s}, [{c} + {residual_stride}]",
                $(
                    concat!("vaddps zmm", $row, "{{k1}}, zmm", $row, ", zmmword ptr [{t}]"),
                    "add {t}, {s}",
                )*
                "7:",
                "vbroadcastss zmm24, dword ptr [{c} + {lo}]",
                "vbroadcastss zmm25, dword ptr [{c} + {hi}]",
                "mov {t}, [{c} + {out}]",
                "mov {s}, [{c} + {stride}]",
                // As `Simd::max` and `Simd::min`: of a NaN, the second operand.
                $(
                    concat!("vmaxps zmm", $row, ", zmm24, zmm", $row),
                    concat!("vminps zmm", $row, ", zmm25, zmm", $row),
                    concat!("vmovups zmmword ptr [{t}]{{k1}}, zmm", $row),
                    "add {t}, {s}",
                )*
            )
        };
    }
    // SAFETY: only the memory that the caller promises is read and written.
    unsafe { tile!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23) }
}

/// Half of [`ROWS`] rows by two vectors, the second of which lies behind the first.
///
/// # Safety
/// As of [`narrow`].
#[inline(always)]
pub(super) unsafe fn wide(tile: &FloatTile) {
    debug_assert!((17..=32).contains(&tile.columns));
    macro_rules! tile {
        ($($row:literal $first:literal $second:literal)*) => {
            run!(
                tile,
                "kmovd k1, {mask:e}",
                "kshiftrd k2, k1, 16",
                "vmovups zmm0, zmmword ptr [{t}]",
                "vmovups zmm1, zmmword ptr [{t} + 64]",
                $(
                    concat!("vmovaps zmm", $first, ", zmm0"),
                    concat!("vmovaps zmm", $second, ", zmm1"),
                )*
                "mov {s}, [{c} + {segments}]",
                // A segment.
                "2:",
                "xor {at:e}, {at:e}",
                "mov {n}, [{c} + {words}]",
                "sub {n}, 2",
                "jb 4f",
                // Two words of every row.
                "3:",
                "vmovups zmm24, zmmword ptr [{b}]",
                "vmovups zmm25, zmmword ptr [{b} + 64]",
                "vmovups zmm26, zmmword ptr [{b} + {pitch}]",
                "vmovups zmm27, zmmword ptr [{b} + {pitch} + 64]",
                $(
                    concat!("mov {t}, [{rows} + 8 * ", $row, "]"),
                    "vbroadcastss zmm28, dword ptr [{t} + {at}]",
                    concat!("vfmadd231ps zmm", $first, ", zmm28, zmm24"),
                    concat!("vfmadd231ps zmm", $second, ", zmm28, zmm25"),
                    "vbroadcastss zmm29, dword ptr [{t} + {at} + 4]",
                    concat!("vfmadd231ps zmm", $first, ", zmm29, zmm26"),
                    concat!("vfmadd231ps zmm", $second, ", zmm29, zmm27"),
                )*
                "add {at}, 8",
                "lea {b}, [{b} + 2 * {pitch}]",
                "sub {n}, 2",
                "jae 3b",
                "4:",
                "test {n:l}, 1",
                "jz 6f",
                // The last word.
                "vmovups zmm24, zmmword ptr [{b}]",
                "vmovups zmm25, zmmword ptr [{b} + 64]",
                $(
                    concat!("mov {t}, [{rows} + 8 * ", $row, "]"),
                    "vbroadcastss zmm28, dword ptr [{t} + {at}]",
                    concat!("vfmadd231ps zmm", $first, ", zmm28, zmm24"),
                    concat!("vfmadd231ps zmm", $second, ", zmm28, zmm25"),
                )*
                "add {b}, {pitch}",
                "6:",
                "add {rows}, 8 * {count}",
                "dec {s}",
                "jnz 2b",
                "mov {t}, [{c} + {residual}]",
                "test {t}, {t}",
                "jz 7f",
                "mov {s}, [{c} + {residual_stride}]",
                $(
                    concat!("vaddps zmm", $first, "{{k1}}, zmm", $first, ", zmmword ptr [{t}]"),
                    concat!("vaddps zmm", $second, "{{k2}}, zmm", $second, ", zmmword ptr [{t} + 64]"),
                    "add {t}, {s}",
                )*
                "7:",
                "vbroadcastss zmm24, dword ptr [{c} + {lo}]",
                "vbroadcastss zmm25, dword ptr [{c} + {hi}]",
                "mov {t}, [{c} + {out}]",
                "mov {s}, [{c} + {stride}]",
                $(
                    concat!("vmaxps zmm", $first, ", zmm24, zmm", $first),
                    concat!("vmaxps zmm", $second, ", zmm24, zmm", $second),
                    concat!("vminps zmm", $first, ", zmm25, zmm", $first),
                    concat!("vminps zmm", $second, ", zmm25, zmm", $second),
                    concat!("vmovups zmmword ptr [{t}]{{k1}}, zmm", $first),
                    concat!("vmovups zmmword ptr [{t} + 64]{{k2}}, zmm", $second),
                    "add {t}, {s}",
                )*
            )
        };
    }
    // SAFETY: as the caller promises.
    unsafe { tile!(0 0 1 1 2 3 2 4 5 3 6 7 4 8 9 5 10 11 6 12 13 7 14 15 8 16 17 9 18 19 10 20 21 11 22 23) }
}
