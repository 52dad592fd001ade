//! Promises that native threads settle.

use crate::error::{BridgeError, Code, Outcome, Result, caught};
use crate::teardown;
use napi::bindgen_prelude::{Env, JsValue, PromiseRaw, ToNapiValue, Unknown};

/// The work behind a promise; whoever runs it, on whatever thread, settles the promise.
pub type Job = Box<dyn FnOnce() + Send>;

/// A promise of what `work` gives, and the job that must be run once to settle it. A panic in `work` rejects it.
///
/// What `work` owns, JavaScript buffers included, is kept until it has returned.
pub fn promise<'env, T, W>(env: &'env Env, work: W) -> Outcome<(Job, PromiseRaw<'env, T>)>
where
    T: ToNapiValue + Send + 'static,
    W: FnOnce() -> Outcome<T> + Send + 'static,
{
    type Settle<T> = Box<dyn FnOnce(Env) -> napi::Result<T>>;
    let (deferred, promise) = env.create_deferred::<T, Settle<T>>()?;
    let promise = PromiseRaw::new(env.raw(), promise.raw());
    let under_way = teardown::enter(env)?;
    let job: Job = Box::new(move || {
        let _until_settled = under_way;
        let result = caught(work);
        deferred.resolve(Box::new(move |env| result.map_err(|error| rejection(env, error))));
    });
    Ok((job, promise))
}

/// napi rejects with its own status as the code, unless the error holds a JavaScript value: so it gets one, with the
/// `errno` of a failed system call.
fn rejection(env: Env, error: BridgeError) -> napi::Error {
    let errno = error.errno;
    let value: Unknown<'_> = napi::JsError::from(napi::Error::<Code>::from(error)).into_unknown(env);
    match errno.map_or(Ok(()), |errno| set_errno(value, errno)) {
        Ok(()) => napi::Error::from(value),
        Err(problem) => problem,
    }
}

fn set_errno(value: Unknown<'_>, errno: i32) -> napi::Result<()> {
    value.coerce_to_object()?.set("errno", errno)
}

/// The body of every native function that gives a promise: what goes wrong before the work begins, a wrong argument
/// for example, rejects the promise as well instead of being thrown.
pub fn promised<'env, T>(
    env: &'env Env,
    body: impl FnOnce() -> Outcome<PromiseRaw<'env, T>>,
) -> Result<PromiseRaw<'env, T>>
where
    T: ToNapiValue,
{
    caught(body)
        .or_else(|error| Ok(PromiseRaw::reject(env, napi::Error::<Code>::from(error)).map_err(BridgeError::from)?))
}

/// Mounting, talking to the holder and joining threads: rare, but nothing for the JavaScript thread to wait for.
pub fn run_aside(job: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let started = std::thread::Builder::new().name("lacuna-aside".to_owned()).spawn(job);
    started.map(drop).map_err(|error| BridgeError::system("start a thread", &error))
}
