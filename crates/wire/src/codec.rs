//! MessagePack with field names as the encoding of every message, so that fields can be added. Must never panic on bytes from
//! outside.

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The codec for messages `T` out and `U` in.
#[derive(Debug, Clone)]
pub(crate) struct Rmp<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Rmp<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// One direction.
#[derive(Debug, Clone)]
pub(crate) struct Half<T>(PhantomData<T>);

impl<T, U> Codec for Rmp<T, U>
where
    T: Serialize + Send + 'static,
    U: DeserializeOwned + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Half<T>;
    type Decoder = Half<U>;

    fn encoder(&mut self) -> Half<T> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<U> {
        Half(PhantomData)
    }
}

impl<T: Serialize> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let mut writer = dst.writer();
        rmp_serde::encode::write_named(&mut writer, &item).map_err(|e| Status::internal(format!("encode message: {e}")))
    }
}

impl<T: DeserializeOwned> Decoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let all = src.copy_to_bytes(src.remaining());
        rmp_serde::from_slice(&all).map(Some).map_err(|e| Status::invalid_argument(format!("decode message: {e}")))
    }
}
