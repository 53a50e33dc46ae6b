//! Reading and writing a module's parameters as matrices.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};

use crate::error::Error;
use crate::kernels::{Execution, Matrix};
use crate::wiring::{Follower, ParamEdges, Wiring};

/// The wired parameters as matrices, off the autodiff tape.
///
/// # Errors
/// A parameter is missing or has another shape than in the wiring.
pub(crate) fn read<M: Module>(
    model: &M,
    wiring: &Wiring,
    execution: Execution,
) -> Result<Vec<Matrix>, Error> {
    let mut reader = Reader {
        execution,
        wiring,
        found: vec![None; wiring.edges.len()],
        error: None,
    };
    model.visit(&mut reader);
    if let Some(error) = reader.error {
        return Err(error);
    }
    all(reader.found, wiring, |name| Error::MissingParameter {
        name,
    })
}

/// What was found for every parameter of the wiring, or the error for the first that is missing.
pub(crate) fn all<T>(
    found: Vec<Option<T>>,
    wiring: &Wiring,
    missing: impl Fn(String) -> Error,
) -> Result<Vec<T>, Error> {
    let pairs = found.into_iter().zip(&wiring.edges);
    pairs
        .map(|(found, edges)| found.ok_or_else(|| missing(edges.name.clone())))
        .collect()
}

struct Reader<'a> {
    wiring: &'a Wiring,
    execution: Execution,
    found: Vec<Option<Matrix>>,
    error: Option<Error>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(place) = self.wiring.param(param.id) else {
            return;
        };
        match matrix(param.val(), &self.wiring.edges[place], self.execution) {
            Ok(matrix) => self.found[place] = Some(matrix),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }
}

/// A parameter or its gradient as the matrix of its edges, off the autodiff tape.
pub(crate) fn matrix<const D: usize>(
    tensor: Tensor<D>,
    edges: &ParamEdges,
    execution: Execution,
) -> Result<Matrix, Error> {
    let dims = tensor.dims();
    if dims.as_slice() != edges.shape.as_slice() {
        return Err(Error::ShapeChanged {
            name: edges.name.clone(),
            expected: edges.shape.clone(),
            found: dims.to_vec(),
        });
    }
    Ok(Matrix::of(tensor, edges.dims(), execution))
}

/// The tensor of shape `from` in another shape, for nothing where that is the same.
fn reshaped<const A: usize, const B: usize>(
    tensor: Tensor<A>,
    from: [usize; A],
    shape: [usize; B],
) -> Tensor<B> {
    if from.as_slice() == shape.as_slice() {
        return Tensor::from_dispatch(tensor.into_dispatch());
    }
    tensor.reshape(shape)
}

/// Registers the gradient of a parameter, given as a matrix, in the parameter's own shape.
pub(crate) fn register(grads: &mut GradientsParams, edges: &ParamEdges, gradient: Matrix) {
    let gradient = Tensor::from(gradient);
    match *edges.shape.as_slice() {
        [n] => grads.register::<1>(edges.id, gradient.reshape([n])),
        [a, b] => grads.register::<2>(edges.id, gradient.reshape([a, b])),
        [a, b, c] => grads.register::<3>(edges.id, gradient.reshape([a, b, c])),
        [a, b, c, d] => grads.register::<4>(edges.id, gradient.reshape([a, b, c, d])),
        _ => unreachable!("layers have weights of one to four dimensions"),
    }
}

/// The model with every wired parameter replaced by `change(place, matrix)`.
///
/// The matrix is handed over uniquely owned where nothing else holds the parameter, so that `change` can work in
/// place. `require_grad`, the distributed flag and the checkpointing strategy stay as they were. Call [`read`]
/// first: it makes sure that model and wiring fit.
pub(crate) fn map<M: Module>(
    model: M,
    wiring: &Wiring,
    execution: Execution,
    change: impl FnMut(usize, Matrix) -> Matrix,
) -> M {
    model.map(&mut Writer {
        wiring,
        execution,
        change,
    })
}

/// The model with every wired parameter replaced by its matrix; see [`map`].
pub(crate) fn replace<M: Module>(model: M, wiring: &Wiring, matrices: Vec<Matrix>) -> M {
    struct Replacer<'a> {
        wiring: &'a Wiring,
        matrices: Vec<Option<Matrix>>,
    }
    impl ModuleMapper for Replacer<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(place) = self.wiring.param(param.id) else {
                return param;
            };
            let edges = &self.wiring.edges[place];
            let matrix = self.matrices[place].take();
            let matrix = matrix.expect("a parameter is mapped once");
            let shape = edges.shape.as_slice().try_into();
            let shape: [usize; D] = shape.expect("a parameter of this shape was read");
            changed(param, |_| {
                reshaped(Tensor::from(matrix), edges.dims(), shape)
            })
        }
    }
    let matrices = matrices.into_iter().map(Some).collect();
    model.map(&mut Replacer { wiring, matrices })
}

/// A copy of the model with running statistics of its own, up to date. (Clones of a batch norm share theirs.)
pub(crate) fn detached<M: Module>(model: &M) -> M {
    let copy = model.valid();
    match is_autodiff(model) {
        true => copy.train(),
        false => copy,
    }
}

fn is_autodiff<M: Module>(model: &M) -> bool {
    struct Any(bool);
    impl ModuleVisitor for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.val().is_autodiff();
        }
    }
    let mut any = Any(false);
    model.visit(&mut any);
    any.0
}

/// The model with every follower replaced by `change(follower, tensor)`.
pub(crate) fn map_followers<M: Module>(
    model: M,
    wiring: &Wiring,
    change: impl Fn(&Follower, Tensor<1>) -> Tensor<1>,
) -> M {
    struct Mapper<'a, F> {
        wiring: &'a Wiring,
        change: F,
    }
    impl<F: Fn(&Follower, Tensor<1>) -> Tensor<1>> ModuleMapper for Mapper<'_, F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let mut followers = self.wiring.followers.iter();
            let Some(follower) = followers.find(|follower| follower.id == param.id) else {
                return param;
            };
            let length = [follower.classes.len()];
            changed(param, |old| {
                let shape = old.dims();
                let vector = reshaped(old.inner(), shape, length);
                reshaped((self.change)(follower, vector), length, shape)
            })
        }
    }
    match wiring.followers.is_empty() {
        true => model,
        false => model.map(&mut Mapper { wiring, change }),
    }
}

/// The values of every follower, in their order.
pub(crate) fn read_followers<M: Module>(model: &M, wiring: &Wiring) -> Vec<Vec<f64>> {
    struct Reader<'a>(&'a Wiring, Vec<Vec<f64>>);
    impl ModuleVisitor for Reader<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let mut followers = self.0.followers.iter();
            if let Some(at) = followers.position(|follower| follower.id == param.id) {
                self.1[at] = param.val().into_data().iter::<f64>().collect();
            }
        }
    }
    let mut reader = Reader(wiring, vec![Vec::new(); wiring.followers.len()]);
    if !wiring.followers.is_empty() {
        detached(model).visit(&mut reader);
    }
    reader.1
}

struct Writer<'a, F> {
    wiring: &'a Wiring,
    execution: Execution,
    change: F,
}

impl<F: FnMut(usize, Matrix) -> Matrix> ModuleMapper for Writer<'_, F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(place) = self.wiring.param(param.id) else {
            return param;
        };
        let edges = &self.wiring.edges[place];
        changed(param, |old| {
            let shape = old.dims();
            let matrix = Matrix::of(old, edges.dims(), self.execution);
            let matrix = (self.change)(place, matrix);
            reshaped(Tensor::from(matrix), edges.dims(), shape)
        })
    }
}

/// The parameter with another tensor, made from its own; all else stays as it was.
fn changed<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, tensor, mapper) = param.consume();
    let context = Context::of(&tensor);
    let tensor = change(tensor);
    Param::from_mapped_value(id, context.restore(tensor, id), mapper)
}

/// What a parameter's tensor carries besides its values, if it is one with autodiff.
struct Context {
    /// None without autodiff.
    checkpointing: Option<GradientCheckpointingStrategy>,
    require_grad: bool,
    distributed: bool,
}

impl Context {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let checkpointing = tensor.gradient_checkpointing_strategy();
        Self {
            require_grad: tensor.is_require_grad(),
            // asking a tensor without autodiff panics
            distributed: checkpointing.is_some() && tensor.is_distributed(),
            checkpointing,
        }
    }

    fn restore<const D: usize>(self, tensor: Tensor<D>, id: ParamId) -> Tensor<D> {
        let Some(strategy) = self.checkpointing else {
            return tensor;
        };
        let mut tensor = Tensor::from_inner(tensor);
        if tensor.gradient_checkpointing_strategy() != Some(strategy) {
            tensor = tensor.with_gradient_checkpointing_strategy(strategy);
        }
        if self.require_grad {
            tensor = tensor.require_grad();
        }
        if self.distributed {
            tensor = tensor.set_distributed(id);
        }
        tensor
    }
}
