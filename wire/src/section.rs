//! One macro that makes a section's struct, its codec, its table of fields and its shape from one list,
//! so that the four can't drift apart.

/// Makes a section. Each field is optional: unknown is absent, never 0.
macro_rules! section {
    (
        $(#[$doc:meta])*
        pub struct $Section:ident as $series:literal {
            $(labels { $( $(#[$label_doc:meta])* $label:ident: $Label:ty, )* })?
            $(list { $(#[$list_doc:meta])* $list:ident })?
            fields {
                $( $field:ident: $Point:ty, $unit:ident, $kind:ident, $decimals:literal, $meaning:literal; )*
            }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $Section {
            $($( $(#[$label_doc])* pub $label: $Label, )*)?
            $(
                #[doc = $meaning]
                #[serde(
                    default,
                    skip_serializing_if = "Option::is_none",
                    with = "crate::number::optional"
                )]
                pub $field: Option<$Point>,
            )*
            $(
                $(#[$list_doc])*
                #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::number::list")]
                pub $list: Vec<f64>,
            )?
        }

        impl $Section {
            /// The name of its series, without instance.
            pub const SERIES: &'static str = $series;

            /// Its fields, in the order in which they stand in a row.
            pub const FIELDS: &'static [$crate::Field] = &[
                $($crate::Field {
                    name: stringify!($field),
                    unit: $crate::Unit::$unit,
                    kind: $crate::FieldKind::$kind,
                    decimals: $decimals,
                    meaning: $meaning,
                },)*
            ];

            /// How it stands in a payload.
            pub(crate) const SHAPE: $crate::sample::shape::Shape = $crate::sample::shape::Shape {
                series: $series,
                keys: &[
                    $($( stringify!($label), )*)?
                    $( stringify!($field), )*
                    $( stringify!($list), )?
                ],
                labels: <[&str]>::len(&[$($( stringify!($label), )*)?]),
                fields: Self::FIELDS,
                whole: &[$( <$Point as $crate::number::Point>::IS_WHOLE, )*],
            };

            /// A section in which nothing is known yet.
            #[must_use]
            pub fn new($($( $label: $Label, )*)?) -> Self {
                Self {
                    $($( $label, )*)?
                    $( $field: None, )*
                    $( $list: Vec::new(), )?
                }
            }

            /// Its values, in the order of [`Self::FIELDS`].
            #[must_use]
            pub fn values(&self) -> [Option<$crate::Value>; Self::FIELDS.len()] {
                use $crate::number::Point as _;
                [$( self.$field.map(|point| point.value()), )*]
            }

            /// Rounds each value to the decimals of its field.
            pub fn round(&mut self) {
                use $crate::number::Point as _;
                $( self.$field = self.$field.map(|point| point.rounded($decimals)); )*
                $(
                    for item in &mut self.$list {
                        *item = item.rounded(2);
                    }
                )?
            }
        }
    };
}

pub(crate) use section;
