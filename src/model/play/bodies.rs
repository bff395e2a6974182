//! What a message holds: one play or an array of them, gzip'd or not, of the default shape or of a site's own (pure).

use super::body_play::{BodyPlay, NoPlay};
use super::decoder::PlayDecoder;
use super::gzip;
use super::ignored::IgnoredFields;
use super::json;
use super::rejection::Rejection;
use super::shape::{CustomDecoder, PlayShape};

/// What was read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPart<'a> {
    /// All of it: one play.
    Alone(BodyPlay<'a>),
    /// An element of its array, in order.
    Element(BodyPlay<'a>),
    /// An element that is no play; the reason names its index, counted from 0.
    NoPlay(NoPlay<'a>),
}

/// Reads the bodies of messages one after the other.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    decoder: ShapeDecoder,
    /// A body that is gzip'd, while it is read.
    inflated: Vec<u8>,
    ignored: IgnoredFields,
}

/// Chosen once, by the shape.
#[derive(Clone, Debug)]
enum ShapeDecoder {
    Default(PlayDecoder),
    Custom(Box<CustomDecoder>),
}

impl BodyDecoder {
    /// Reads bodies of that shape.
    pub fn new(shape: &PlayShape) -> Self {
        let decoder = match *shape == PlayShape::default() {
            true => ShapeDecoder::Default(PlayDecoder::default()),
            false => ShapeDecoder::Custom(Box::new(CustomDecoder::new(shape.clone()))),
        };
        Self { decoder, inflated: Vec::new(), ignored: IgnoredFields::default() }
    }

    /// Reads a body: `each` is given what it holds, in order.
    ///
    /// # Errors
    /// [`Rejection`]: nothing of it counts, whatever `each` was given before. It is no JSON, no play and no array of plays,
    /// an array of none or of more than [`PlayShape::PLAYS_MAX`], or gzip'd and damaged or more than 16 MiB.
    #[inline]
    pub fn decode(
        &mut self,
        body: &[u8],
        mut each: impl FnMut(BodyPart<'_>),
    ) -> Result<(), Rejection> {
        if let ShapeDecoder::Default(decoder) = &mut self.decoder
            && let Some(play) = decoder.scan(body)
        {
            each(BodyPart::Alone(play.into()));
            return Ok(());
        }
        if !gzip::is_gzip(body) {
            return self.decoder.decode(body, &mut self.ignored, &mut each);
        }
        let Self { decoder, inflated, ignored } = self;
        gzip::read_inflated(body, inflated, |body| decoder.decode(body, ignored, &mut each))
    }

    /// Of the plays that were read since the last call: the optional fields that could not be.
    pub fn take_ignored(&mut self) -> IgnoredFields {
        let mut ignored = std::mem::take(&mut self.ignored);
        if let ShapeDecoder::Default(decoder) = &mut self.decoder {
            ignored.merge(decoder.take_ignored());
        }
        ignored
    }
}

impl ShapeDecoder {
    #[inline(never)]
    fn decode(
        &mut self,
        body: &[u8],
        ignored: &mut IgnoredFields,
        each: &mut dyn FnMut(BodyPart<'_>),
    ) -> Result<(), Rejection> {
        match self {
            Self::Default(decoder) => match json::expect(body, b'[') {
                Some(elements) => default_array(decoder, body, elements, each),
                None => decoder.decode(body).map(|play| each(BodyPart::Alone(play.into()))),
            },
            Self::Custom(decoder) => {
                let alone = decoder.decode(body, ignored, |index, element| {
                    each(match element {
                        Ok(play) => BodyPart::Element(play),
                        Err(no_play) => no_play.at(index),
                    });
                })?;
                alone.into_iter().for_each(|play| each(BodyPart::Alone(play)));
                Ok(())
            }
        }
    }
}

/// Reads an array of plays of the default shape, whose opening bracket is read.
fn default_array(
    decoder: &mut PlayDecoder,
    body: &[u8],
    elements: &[u8],
    each: &mut dyn FnMut(BodyPart<'_>),
) -> Result<(), Rejection> {
    let (mut count, mut is_too_long) = (0, false);
    let behind = json::elements(elements, |index, rest| {
        is_too_long = index >= PlayShape::PLAYS_MAX;
        if is_too_long {
            return None;
        }
        count = index + 1;
        let (element, behind) = json::raw_value(rest)?;
        each(match decoder.decode(element) {
            Ok(play) => BodyPart::Element(play.into()),
            Err(reason) => NoPlay { element, reason }.at(index),
        });
        Some(behind)
    });
    match behind {
        _ if is_too_long => Err(Rejection::too_many_plays(PlayShape::PLAYS_MAX)),
        Some(behind) if json::token(behind).is_none() => match count {
            0 => Err(Rejection::no_plays()),
            _ => Ok(()),
        },
        _ => Err(Rejection::of_json(body)),
    }
}

impl<'a> NoPlay<'a> {
    fn at(self, index: usize) -> BodyPart<'a> {
        let Self { element, reason } = self;
        BodyPart::NoPlay(Self { element, reason: reason.of_element(index) })
    }
}

#[cfg(test)]
mod tests;
