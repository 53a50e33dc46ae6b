//! Reading and writing a module's parameters as matrices.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};
use gsgd_core::Network;
use gsgd_core::scales::{CoScaled, ParamEdges, ParamKey, ScaleGraph};

use crate::error::Error;
use crate::matrix::{BurnMatrix, Execution};

/// The graph's parameters as matrices, off the autodiff tape.
///
/// # Errors
/// A parameter is missing or has another shape than in the graph.
pub(crate) fn read<M: Module>(
    model: &M,
    graph: &ScaleGraph,
    execution: Execution,
) -> Result<Vec<BurnMatrix>, Error> {
    let mut reader = Reader {
        execution,
        graph,
        found: vec![None; graph.edges().len()],
        error: None,
    };
    model.visit(&mut reader);
    if let Some(error) = reader.error {
        return Err(error);
    }
    all(reader.found, graph, |name| Error::MissingParameter { name })
}

/// What `of` makes of the network that these weights are.
///
/// # Errors
/// Model and graph do not fit, and those of `of`.
pub(crate) fn with<M: Module, T>(
    model: &M,
    graph: &ScaleGraph,
    of: impl FnOnce(Network<BurnMatrix>) -> Result<T, Error>,
) -> Result<T, Error> {
    let weights = read(model, graph, Execution::Fused)?;
    let weights = &weights;
    of(Network { graph, weights })
}

/// What the graph knows a parameter by.
pub(crate) fn key(id: ParamId) -> ParamKey {
    ParamKey(id.val())
}

/// The parameter of these edges.
pub(crate) fn id(edges: &ParamEdges) -> ParamId {
    ParamId::from(edges.key().0)
}

/// What was found for every parameter of the graph, or the error for the first that is missing.
pub(crate) fn all<T>(
    found: Vec<Option<T>>,
    graph: &ScaleGraph,
    missing: impl Fn(String) -> Error,
) -> Result<Vec<T>, Error> {
    let pairs = found.into_iter().zip(graph.edges());
    pairs
        .map(|(found, edges)| found.ok_or_else(|| missing(edges.name().to_string())))
        .collect()
}

struct Reader<'a> {
    graph: &'a ScaleGraph,
    execution: Execution,
    found: Vec<Option<BurnMatrix>>,
    error: Option<Error>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(place) = self.graph.param(key(param.id)) else {
            return;
        };
        match matrix(param.val(), &self.graph.edges()[place], self.execution) {
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
) -> Result<BurnMatrix, Error> {
    let dims = tensor.dims();
    if dims.as_slice() != edges.shape() {
        return Err(Error::ShapeChanged {
            name: edges.name().to_string(),
            expected: edges.shape().to_vec(),
            found: dims.to_vec(),
        });
    }
    Ok(BurnMatrix::new(tensor, edges.dims(), execution))
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
pub(crate) fn register(grads: &mut GradientsParams, edges: &ParamEdges, gradient: BurnMatrix) {
    let (gradient, id) = (Tensor::from(gradient), id(edges));
    match *edges.shape() {
        [n] => grads.register::<1>(id, gradient.reshape([n])),
        [a, b] => grads.register::<2>(id, gradient.reshape([a, b])),
        [a, b, c] => grads.register::<3>(id, gradient.reshape([a, b, c])),
        [a, b, c, d] => grads.register::<4>(id, gradient.reshape([a, b, c, d])),
        [a, b, c, d, e] => grads.register::<5>(id, gradient.reshape([a, b, c, d, e])),
        [a, b, c, d, e, f] => grads.register::<6>(id, gradient.reshape([a, b, c, d, e, f])),
        _ => unreachable!("layers have weights of one to six dimensions"),
    }
}

/// The model with every parameter of the graph replaced by `change(place, matrix)`, which gets a matrix that nothing else
/// holds. Call [`read`] first: it makes sure that model and graph fit.
pub(crate) fn map<M: Module>(
    model: M,
    graph: &ScaleGraph,
    change: impl Fn(usize, BurnMatrix) -> BurnMatrix,
) -> M {
    let (rest, matrices) = take_out(model, graph, Execution::Fused);
    let matrices = matrices.into_iter().enumerate();
    let changed = matrices.map(|(param, matrix)| change(param, matrix));
    replace(rest, graph, changed.collect())
}

/// The parameters of the graph as matrices, taken out of the model so that nothing else holds them; what is left there is to
/// be [replaced](replace). Call [`read`] first: it makes sure that model and graph fit. `require_grad`, the distributed flag and
/// the checkpointing strategy stay as they were.
pub(crate) fn take_out<M: Module>(
    model: M,
    graph: &ScaleGraph,
    execution: Execution,
) -> (M, Vec<BurnMatrix>) {
    struct Taker<'a> {
        graph: &'a ScaleGraph,
        execution: Execution,
        found: Vec<Option<BurnMatrix>>,
    }
    impl ModuleMapper for Taker<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(place) = self.graph.param(key(param.id)) else {
                return param;
            };
            changed(param, |old| {
                let left = Tensor::zeros([1; D], (&old.device(), old.dtype()));
                let dims = self.graph.edges()[place].dims();
                self.found[place] = Some(BurnMatrix::new(old, dims, self.execution));
                left
            })
        }
    }
    let mut taker = Taker {
        graph,
        execution,
        found: vec![None; graph.edges().len()],
    };
    let model = model.map(&mut taker);
    (model, taker.found.into_iter().flatten().collect())
}

/// The model with every parameter of the graph replaced by its matrix.
pub(crate) fn replace<M: Module>(model: M, graph: &ScaleGraph, matrices: Vec<BurnMatrix>) -> M {
    struct Replacer<'a> {
        graph: &'a ScaleGraph,
        matrices: Vec<BurnMatrix>,
    }
    impl ModuleMapper for Replacer<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(place) = self.graph.param(key(param.id)) else {
                return param;
            };
            let edges = &self.graph.edges()[place];
            // a module may hold a parameter in two places
            let matrix = self.matrices[place].clone();
            let shape = edges.shape().try_into();
            let shape: [usize; D] = shape.expect("a parameter of this shape was read");
            changed(param, |_| {
                reshaped(Tensor::from(matrix), edges.dims(), shape)
            })
        }
    }
    model.map(&mut Replacer { graph, matrices })
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

/// The model with running variances below 1 set to 1: its function with less of the epsilons.
pub(crate) fn with_variances_from_one<M: Module>(model: M, graph: &ScaleGraph) -> M {
    map_co_scaled(model, graph, |tensor, values| match tensor.power() {
        2 => values.clamp_min(1.0),
        _ => values,
    })
}

/// The model with every tensor replaced by `change(tensor, tensor)`.
pub(crate) fn map_co_scaled<M: Module>(
    model: M,
    graph: &ScaleGraph,
    change: impl Fn(&CoScaled, Tensor<1>) -> Tensor<1>,
) -> M {
    struct Mapper<'a, F> {
        graph: &'a ScaleGraph,
        change: F,
    }
    impl<F: Fn(&CoScaled, Tensor<1>) -> Tensor<1>> ModuleMapper for Mapper<'_, F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let mut tensors = self.graph.co_scaled().iter();
            let Some(tensor) = tensors.find(|tensor| tensor.key() == key(param.id)) else {
                return param;
            };
            let length = [tensor.classes().len()];
            changed(param, |old| {
                let shape = old.dims();
                let vector = reshaped(old.inner(), shape, length);
                reshaped((self.change)(tensor, vector), length, shape)
            })
        }
    }
    match graph.co_scaled().is_empty() {
        true => model,
        false => model.map(&mut Mapper { graph, change }),
    }
}

/// The values of every tensor, in their order.
pub(crate) fn read_co_scaled<M: Module>(model: &M, graph: &ScaleGraph) -> Vec<Vec<f64>> {
    struct Reader<'a>(&'a ScaleGraph, Vec<Vec<f64>>);
    impl ModuleVisitor for Reader<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let mut tensors = self.0.co_scaled().iter();
            if let Some(at) = tensors.position(|tensor| tensor.key() == key(param.id)) {
                self.1[at] = param.val().into_data().iter::<f64>().collect();
            }
        }
    }
    let mut reader = Reader(graph, vec![Vec::new(); graph.co_scaled().len()]);
    if !graph.co_scaled().is_empty() {
        detached(model).visit(&mut reader);
    }
    reader.1
}

/// The parameter with another tensor, made from its own; all else stays as it was.
fn changed<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, tensor, mapper) = param.consume();
    let context = Context::from_tensor(&tensor);
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
    fn from_tensor<const D: usize>(tensor: &Tensor<D>) -> Self {
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
