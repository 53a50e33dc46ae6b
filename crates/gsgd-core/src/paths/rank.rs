//! Rank of a small integer matrix by elimination modulo a prime.

const PRIME: u128 = (1 << 61) - 1;

/// The rank of the rows over the integers modulo 2^61 - 1; never above the rational rank.
pub(super) fn modulo_prime(rows: &[Vec<u8>]) -> usize {
    // Reduced rows with a leading 1, by the column of that 1.
    let mut basis: Vec<Option<Vec<u64>>> = vec![None; rows.first().map_or(0, Vec::len)];
    for row in rows {
        let mut row: Vec<u64> = row.iter().map(|&entry| entry.into()).collect();
        for column in 0..row.len() {
            if row[column] == 0 {
                continue;
            }
            match &basis[column] {
                Some(pivot) => {
                    let factor = PRIME as u64 - row[column];
                    for (entry, &p) in row.iter_mut().zip(pivot) {
                        *entry = add(*entry, multiply(factor, p));
                    }
                }
                None => {
                    let scale = inverse(row[column]);
                    row.iter_mut()
                        .for_each(|entry| *entry = multiply(*entry, scale));
                    basis[column] = Some(row);
                    break;
                }
            }
        }
    }
    basis.iter().flatten().count()
}

fn add(a: u64, b: u64) -> u64 {
    ((u128::from(a) + u128::from(b)) % PRIME) as u64
}

fn multiply(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) % PRIME) as u64
}

/// a^(p - 2), by Fermat.
fn inverse(a: u64) -> u64 {
    let (mut result, mut base, mut exponent) = (1, a, PRIME - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_known_matrices() {
        assert_eq!(modulo_prime(&[]), 0);
        assert_eq!(modulo_prime(&[vec![0, 0], vec![0, 0]]), 0);
        assert_eq!(modulo_prime(&[vec![1, 2], vec![2, 4], vec![0, 1]]), 2);
        assert_eq!(
            modulo_prime(&[vec![2, 1, 1], vec![1, 3, 2], vec![3, 4, 3]]),
            2
        );
        assert_eq!(
            modulo_prime(&[vec![0, 1, 1], vec![1, 0, 1], vec![1, 1, 0]]),
            3
        );
    }

    #[test]
    fn inverses_multiply_to_one() {
        for a in [1, 2, 3, 12345, PRIME as u64 - 1] {
            assert_eq!(multiply(a, inverse(a)), 1);
        }
    }
}
