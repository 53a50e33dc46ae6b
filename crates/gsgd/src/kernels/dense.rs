//! The reference: every operation as the formula reads, in tensor operations of any backend.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{ColumnSums, Lines, Power};

fn column_of(x: &Tensor<2>, values: &[f64]) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len(), 1]);
    Tensor::from_data(data, (&x.device(), x.dtype()))
}

fn row_of(x: &Tensor<2>, values: &[f64]) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [1, values.len()]);
    Tensor::from_data(data, (&x.device(), x.dtype()))
}

fn read(x: Tensor<2>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

fn power(w: Tensor<2>, p: Power) -> Tensor<2> {
    match p {
        Power::One => w.abs(),
        Power::Two => w.clone() * w,
    }
}

pub fn row_dots(w: Tensor<2>, g: Tensor<2>) -> Vec<f64> {
    read((w * g).sum_dim(1))
}

pub fn column_sums(w: Tensor<2>, g: Tensor<2>, rows: &[f64]) -> ColumnSums {
    let factor = column_of(&w, rows);
    ColumnSums {
        squares: read(power(w.clone() * factor.clone(), Power::Two).sum_dim(0)),
        dots: read((w * g.clone()).sum_dim(0)),
        gradient_squares: read(power(g / factor, Power::Two).sum_dim(0)),
    }
}

pub fn row_powers(w: Tensor<2>, columns: &[f64], p: Power) -> Vec<f64> {
    let factor = row_of(&w, columns);
    read((power(w, p) * factor).sum_dim(1))
}

pub fn column_powers(w: Tensor<2>, rows: &[f64], p: Power) -> Vec<f64> {
    let factor = column_of(&w, rows);
    read((power(w, p) * factor).sum_dim(0))
}

pub fn scale(x: Tensor<2>, by: &Lines) -> Tensor<2> {
    let (rows, columns) = (column_of(&x, &by.rows), row_of(&x, &by.columns));
    x * rows * columns
}

pub fn combine(x: Tensor<2>, of_x: &Lines, y: Tensor<2>, of_y: &Lines) -> Tensor<2> {
    scale(x, of_x) + scale(y, of_y)
}

pub fn allocate(w: Tensor<2>, moved: Tensor<2>, v: &Lines, a: &Lines, b: &Lines) -> Tensor<2> {
    let change = moved - scale(w.clone(), v);
    combine(w, a, change, b)
}

fn flat(x: &Tensor<2>) -> Tensor<1> {
    let [rows, columns] = x.dims();
    x.clone().reshape([rows * columns])
}

fn indices(x: &Tensor<2>, at: &[usize]) -> Tensor<1, Int> {
    let at: Vec<i64> = at.iter().map(|&i| i as i64).collect();
    Tensor::from_data(TensorData::from(at.as_slice()), &x.device())
}

pub fn gather(x: Tensor<2>, at: &[usize]) -> Vec<f64> {
    let entries = flat(&x).select(0, indices(&x, at));
    entries.into_data().iter::<f64>().collect()
}

pub fn put(x: Tensor<2>, at: &[usize], values: &[f64]) -> Tensor<2> {
    let shape = x.dims();
    let data = TensorData::new(values.to_vec(), [values.len()]);
    let values = Tensor::<1>::from_data(data, (&x.device(), x.dtype()));
    let index = indices(&x, at);
    flat(&x)
        .scatter(0, index, values, IndexingUpdateOp::Assign)
        .reshape(shape)
}
