//! The engines behind one face: each loads a model for given inputs, and runs it.

use crate::feeds::Feed;
use onrush::{CompileOptions, DType, Model, Shape, Tensor};
use rten_tensor::prelude::*;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModelExt, IntoRunnable};
use tract_onnx::tract_core::internal::{DatumType, IntoTValue, TValue, TVec, multithread};

/// One run; how many numbers came out, so that none can be left out.
pub(crate) type Run = Box<dyn FnMut() -> Result<usize, Box<dyn Error>>>;

type Opened = Result<Run, Box<dyn Error>>;

/// An engine by name, opened for a model, its inputs and so many threads.
pub(crate) type Engine = (&'static str, fn(&Path, &[Feed], usize) -> Opened);

/// All engines; ours first.
pub(crate) const ENGINES: [Engine; 3] = [("onrush", onrush), ("rten", rten), ("tract", tract)];

fn onrush(path: &Path, feeds: &[Feed], threads: usize) -> Opened {
    let compiled = Model::load(path)?.compile(&CompileOptions::new().threads(threads))?;
    let tensor =
        |feed: &Feed| Tensor::new(feed.shape.iter().copied().collect::<Shape>(), feed.values.clone())?.cast(feed.dtype);
    let inputs = feeds.iter().map(tensor).collect::<onrush::Result<Vec<Tensor>>>()?;
    let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().clone()).collect();
    let plan = compiled.plan(&shapes)?;
    let mut scratch = plan.scratch()?;
    Ok(Box::new(move || {
        let _ = &compiled;
        plan.run(&mut scratch, &inputs)?;
        Ok(scratch.output(0)?.shape().elements())
    }))
}

fn rten(path: &Path, feeds: &[Feed], threads: usize) -> Opened {
    let model = rten::ModelOptions::with_all_ops().prepack_weights(true).load_file(path)?;
    // Whole numbers of four and eight bytes and truth values are all `i32` there, halves have no type.
    let value = |feed: &Feed| -> Result<rten::Value, Box<dyn Error>> {
        let (shape, values) = (&feed.shape[..], &feed.values);
        Ok(match feed.dtype {
            DType::F32 | DType::F64 => rten::Value::from_shape(shape, values.iter().map(|&v| v as f32).collect())?,
            DType::U8 => rten::Value::from_shape(shape, values.iter().map(|&v| v as u8).collect())?,
            DType::I8 => rten::Value::from_shape(shape, values.iter().map(|&v| v as i8).collect())?,
            DType::I32 | DType::I64 | DType::Bool => {
                rten::Value::from_shape(shape, values.iter().map(|&v| v as i32).collect())?
            }
            other => return Err(format!("no tensors of {other}").into()),
        })
    };
    let inputs = feeds.iter().map(|feed| Ok((model.node_id(&feed.name)?, value(feed)?)));
    let inputs = inputs.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let pool = Arc::new(rten::ThreadPool::with_num_threads(threads));
    Ok(Box::new(move || {
        let given = inputs.iter().map(|(id, value)| (*id, value.as_view().into())).collect();
        let options = rten::RunOptions::default().with_thread_pool(Some(pool.clone()));
        let outputs = model.run(given, model.output_ids(), Some(options))?;
        Ok(outputs.first().map_or(0, |output| output.as_view().shape().iter().product()))
    }))
}

fn tract(path: &Path, feeds: &[Feed], threads: usize) -> Opened {
    let kind = |dtype| {
        Ok(match dtype {
            DType::F32 => DatumType::F32,
            DType::F64 => DatumType::F64,
            DType::F16 => DatumType::F16,
            DType::I64 => DatumType::I64,
            DType::I32 => DatumType::I32,
            DType::U8 => DatumType::U8,
            DType::I8 => DatumType::I8,
            DType::Bool => DatumType::Bool,
            other => return Err(format!("no tensors of {other}")),
        })
    };
    // The shapes that a file notes between its operators may name the batch, which is a number here.
    let mut model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(path)?;
    let names: Vec<String> = model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let mut inputs: TVec<TValue> = TVec::new();
    for (at, name) in names.iter().enumerate() {
        let feed = feeds.iter().find(|feed| feed.name == *name).ok_or_else(|| format!("no input is called {name}"))?;
        let kind = kind(feed.dtype)?;
        model.set_input_fact(at, InferenceFact::dt_shape(kind, &feed.shape))?;
        let tensor = tract_onnx::prelude::Tensor::from_shape(&feed.shape, &feed.values)?;
        inputs.push(tensor.cast_to_dt(kind)?.into_owned().into_tvalue());
    }
    let executor = if threads > 1 { multithread::Executor::multithread(threads) } else { Default::default() };
    let mut state = model.into_optimized()?.into_runnable()?.spawn()?;
    Ok(Box::new(move || {
        let outputs = multithread::multithread_tract_scope(executor.clone(), || state.run(inputs.clone()))?;
        Ok(outputs.first().map_or(0, |output| output.len()))
    }))
}
