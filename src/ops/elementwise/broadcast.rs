//! Numpy broadcasting of facts.

use crate::error::{Result, bail};
use crate::tensor::{Dim, Fact};

/// The axes that broadcasting makes of all the facts together; `None` where a rank is not known.
///
/// # Errors
/// [`Shape`](crate::ErrorKind::Shape) when two known axes differ and neither is 1.
pub(super) fn broadcast_dims(facts: &[&Fact]) -> Result<Option<Vec<Dim>>> {
    let Some(shapes) = facts.iter().map(|f| f.dims()).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::Known(1); rank];
    for shape in &shapes {
        let offset = rank - shape.len();
        for (axis, dim) in shape.iter().enumerate() {
            let Ok(joined) = out[offset + axis].broadcast(dim) else {
                bail!(
                    Shape,
                    "shapes {shapes:?} do not broadcast: axis {} has lengths {:?} and {dim:?}",
                    offset + axis,
                    out[offset + axis]
                )
            };
            out[offset + axis] = joined;
        }
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Symbol};

    #[test]
    fn ranks_align_at_the_last_axis() {
        let n = Dim::Symbol(Symbol::new("N"));
        let a = Fact::new(DType::F32, vec![n.clone(), 1.into(), 4.into()]);
        let b = Fact::concrete(DType::F32, &[3, 1]);
        assert_eq!(broadcast_dims(&[&a, &b]).unwrap(), Some(vec![n, 3.into(), 4.into()]));
        assert_eq!(broadcast_dims(&[&a, &Fact::unranked(DType::F32)]).unwrap(), None);
        assert!(broadcast_dims(&[&a, &Fact::concrete(DType::F32, &[5])]).is_err());
    }
}
