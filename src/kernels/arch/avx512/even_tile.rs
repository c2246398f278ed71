//! Tiles of seven to twelve rows by two vectors of columns, in the sixteen lanes of AVX-512: sums take up to twenty-four registers,
//! and three pointers with two distances reach every row, so that nothing is read back from a stack.
//!
//! A line of each row is fetched 128 bytes before its use, which is some four hundred cycles: as long as the third cache takes.
//! Where a tile has fewer than twelve rows, so are some that follow.

use super::super::even_tile::{EvenTile, EvenWords};
use std::arch::asm;
use std::mem::offset_of;

/// Rows of a tile.
pub(super) const ROWS: std::ops::Range<usize> = 7..13;

/// Multiplies a word of a row.
macro_rules! row {
    ($mac:literal $address:literal $at:literal $first:literal $second:literal $a:literal) => {
        concat!(
            "vbroadcastss zmm",
            $a,
            ", dword ptr [",
            $address,
            " + ",
            $at,
            "]\n",
            $mac,
            " zmm",
            $first,
            ", zmm",
            $a,
            ", zmm24\n",
            $mac,
            " zmm",
            $second,
            ", zmm",
            $a,
            ", zmm25",
        )
    };
}

/// The instructions of a tile of the rows whose addresses, registers of sums and register of a word are given.
macro_rules! tile {
    ($tile:ident, $mac:literal, $($address:literal $first:literal $second:literal $a:literal)*) => {
        asm!(
            "lea {s3}, [{s} + 2 * {s}]",
            "lea {y}, [{x} + 4 * {s}]",
            "lea {z}, [{x} + 8 * {s}]",
            "cmp qword ptr [{c} + {resume}], 0",
            "jne 2f",
            "vmovups zmm0, zmmword ptr [{t}]",
            "vmovups zmm1, zmmword ptr [{t} + 64]",
            $(
                concat!("vmovaps zmm", $first, ", zmm0"),
                concat!("vmovaps zmm", $second, ", zmm1"),
            )*
            "jmp 3f",
            "2:",
            "mov {t}, [{c} + {out}]",
            $(
                concat!("vmovups zmm", $first, ", zmmword ptr [{t}]"),
                concat!("vmovups zmm", $second, ", zmmword ptr [{t} + 64]"),
                "add {t}, [{c} + {stride}]",
            )*
            "3:",
            "sub {n}, 4",
            "jb 6f",
            // Four words of every row.
            ".p2align 5",
            "4:",
            "vmovups zmm24, zmmword ptr [{b}]",
            "vmovups zmm25, zmmword ptr [{b} + 64]",
            $(row!($mac $address "0" $first $second $a),)*
            "prefetcht1 byte ptr [{ahead}]",
            "prefetcht1 byte ptr [{ahead} + 64]",
            "mov {t}, [{c} + {more}]",
            "test {t}, {t}",
            "jz 24f",
            "23:",
            "prefetcht1 byte ptr [{ahead} + {t} + 64]",
            "sub {t}, 64",
            "jnz 23b",
            "24:",
            "add {ahead}, [{c} + {step}]",
            "prefetcht0 byte ptr [{x} + 128]",
            "prefetcht0 byte ptr [{x} + {s} + 128]",
            "prefetcht0 byte ptr [{x} + 2 * {s} + 128]",
            "prefetcht0 byte ptr [{x} + {s3} + 128]",
            "vmovups zmm24, zmmword ptr [{b} + 128]",
            "vmovups zmm25, zmmword ptr [{b} + 192]",
            $(row!($mac $address "4" $first $second $a),)*
            "prefetcht0 byte ptr [{y} + 128]",
            "prefetcht0 byte ptr [{y} + {s} + 128]",
            "prefetcht0 byte ptr [{y} + 2 * {s} + 128]",
            "prefetcht0 byte ptr [{y} + {s3} + 128]",
            "vmovups zmm24, zmmword ptr [{b} + 256]",
            "vmovups zmm25, zmmword ptr [{b} + 320]",
            $(row!($mac $address "8" $first $second $a),)*
            "prefetcht0 byte ptr [{z} + 128]",
            "prefetcht0 byte ptr [{z} + {s} + 128]",
            "prefetcht0 byte ptr [{z} + 2 * {s} + 128]",
            "prefetcht0 byte ptr [{z} + {s3} + 128]",
            "vmovups zmm24, zmmword ptr [{b} + 384]",
            "vmovups zmm25, zmmword ptr [{b} + 448]",
            $(row!($mac $address "12" $first $second $a),)*
            "add {x}, 16",
            "add {y}, 16",
            "add {z}, 16",
            "add {b}, 512",
            "dec {next_rows}",
            "js 5f",
            "prefetchw byte ptr [{next}]",
            "prefetchw byte ptr [{next} + 64]",
            "prefetchw byte ptr [{next} + 127]",
            "add {next}, [{c} + {stride}]",
            "5:",
            "sub {n}, 4",
            "jae 4b",
            "6:",
            "add {n}, 4",
            "jz 8f",
            // A word of every row.
            "7:",
            "vmovups zmm24, zmmword ptr [{b}]",
            "vmovups zmm25, zmmword ptr [{b} + 64]",
            $(row!($mac $address "0" $first $second $a),)*
            "add {x}, 4",
            "add {y}, 4",
            "add {z}, 4",
            "add {b}, 128",
            "dec {n}",
            "jnz 7b",
            "8:",
            "mov {t}, [{c} + {residual}]",
            "test {t}, {t}",
            "jz 9f",
            $(
                concat!("vaddps zmm", $first, ", zmm", $first, ", zmmword ptr [{t}]"),
                concat!("vaddps zmm", $second, ", zmm", $second, ", zmmword ptr [{t} + 64]"),
                "add {t}, [{c} + {residual_stride}]",
            )*
            "9:",
            "cmp qword ptr [{c} + {bounded}], 0",
            "je 22f",
            "vbroadcastss zmm24, dword ptr [{c} + {lo}]",
            "vbroadcastss zmm25, dword ptr [{c} + {hi}]",
            $(
                concat!("vmaxps zmm", $first, ", zmm24, zmm", $first),
                concat!("vmaxps zmm", $second, ", zmm24, zmm", $second),
                concat!("vminps zmm", $first, ", zmm25, zmm", $first),
                concat!("vminps zmm", $second, ", zmm25, zmm", $second),
            )*
            "22:",
            "mov {t}, [{c} + {out}]",
            $(
                concat!("vmovups zmmword ptr [{t}], zmm", $first),
                concat!("vmovups zmmword ptr [{t} + 64], zmm", $second),
                "add {t}, [{c} + {stride}]",
            )*
            c = in(reg) std::ptr::from_ref($tile),
            x = inout(reg) $tile.rows => _,
            y = out(reg) _,
            z = out(reg) _,
            s = in(reg) $tile.apart,
            s3 = out(reg) _,
            b = inout(reg) $tile.b => _,
            n = inout(reg) $tile.words => _,
            ahead = inout(reg) $tile.ahead => _,
            next = inout(reg) $tile.next => _,
            next_rows = inout(reg) $tile.next_rows => _,
            t = inout(reg) $tile.start => _,
            more = const offset_of!(EvenTile, more),
            step = const offset_of!(EvenTile, step),
            resume = const offset_of!(EvenTile, resume),
            residual = const offset_of!(EvenTile, residual),
            residual_stride = const offset_of!(EvenTile, residual_stride),
            bounded = const offset_of!(EvenTile, bounded),
            lo = const offset_of!(EvenTile, lo),
            hi = const offset_of!(EvenTile, hi),
            out = const offset_of!(EvenTile, out),
            stride = const offset_of!(EvenTile, stride),
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

/// A tile of `rows` rows.
///
/// # Safety
/// The machine has AVX-512 F, and BF16 for words of it; there are rows as [`ROWS`] says; `tile` points to what it says.
#[inline(always)]
pub(super) unsafe fn run(words: EvenWords, rows: usize, tile: &EvenTile) {
    debug_assert!(ROWS.contains(&rows));
    macro_rules! seven {
        ($mac:literal $($more:tt)*) => {
            tile!(
                tile, $mac,
                "{x}" 0 1 26 "{x} + {s}" 2 3 27 "{x} + 2 * {s}" 4 5 28 "{x} + {s3}" 6 7 29
                "{y}" 8 9 26 "{y} + {s}" 10 11 27 "{y} + 2 * {s}" 12 13 28 $($more)*
            )
        };
    }
    macro_rules! eight {
        ($mac:literal $($more:tt)*) => { seven!($mac "{y} + {s3}" 14 15 29 $($more)*) };
    }
    macro_rules! nine {
        ($mac:literal $($more:tt)*) => { eight!($mac "{z}" 16 17 26 $($more)*) };
    }
    macro_rules! ten {
        ($mac:literal $($more:tt)*) => { nine!($mac "{z} + {s}" 18 19 27 $($more)*) };
    }
    macro_rules! eleven {
        ($mac:literal $($more:tt)*) => { ten!($mac "{z} + 2 * {s}" 20 21 28 $($more)*) };
    }
    macro_rules! twelve {
        ($mac:literal) => { eleven!($mac "{z} + {s3}" 22 23 29) };
    }
    macro_rules! heights {
        ($mac:literal) => {
            match rows {
                7 => seven!($mac),
                8 => eight!($mac),
                9 => nine!($mac),
                10 => ten!($mac),
                11 => eleven!($mac),
                _ => twelve!($mac),
            }
        };
    }
    // SAFETY: as the caller promises.
    unsafe {
        match words {
            EvenWords::F32 => heights!("vfmadd231ps"),
            EvenWords::Bf16 => heights!("vdpbf16ps"),
        }
    }
}
