//! QR codes as drawings: paths of an SVG in the page, which need no image, script or style from elsewhere.

use fast_qr::{ECL, QRBuilder};

/// Modules around a code that stay light, or readers do not find it (ISO/IEC 18004).
const QUIET: usize = 4;

/// A QR code.
pub(crate) struct QrCode {
    /// Width and height of the drawing, in modules.
    pub(crate) size: usize,
    /// The dark modules, as the data of a path.
    pub(crate) path: String,
}

// === impl QrCode ===

impl QrCode {
    /// Draws a text; `None` when it is too long for a code.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
        let mut path = String::new();
        for (y, row) in (0..code.size).map(|y| (y, &code[y])) {
            for (x, _) in row.iter().enumerate().filter(|(_, module)| module.value()) {
                path.push_str(&format!("M{} {}h1v1h-1z", x + QUIET, y + QUIET));
            }
        }
        Some(Self { size: code.size + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_three_corners_and_a_quiet_zone() {
        let code = QrCode::of("otpauth://totp/Tollgate:ada?secret=ABCDEFGHIJKLMNOP").expect("short enough");
        // The first row of a corner: seven dark modules, then a light one.
        for x in 4..11 {
            assert!(code.path.contains(&format!("M{x} 4h1v1h-1z")), "{x}: {}", code.path);
        }
        assert!(!code.path.contains("M11 4h"), "{}", code.path);
        assert!(code.path.contains(&format!("M{} 4h", code.size - 5)), "the right corner");
        assert!(code.path.contains(&format!("M4 {}h", code.size - 5)), "the lower corner");
        assert!(!code.path.contains("M3 ") && !code.path.contains(" 3h"), "the quiet zone");
        assert!(QrCode::of(&"x".repeat(5000)).is_none());
    }
}
