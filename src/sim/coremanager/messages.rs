//! Texts of refusals, in the two languages that `lang` chooses from: section 1.1 of the facts.

use crate::sim::world::refusal::{Kind, Refusal};

/// What a person is told. Programs look at type and object.
pub(crate) fn text(refusal: &Refusal, lang: &str) -> String {
    if let Some(text) = &refusal.msg {
        return text.clone();
    }
    let (object, value) = (&refusal.object, &refusal.value);
    if lang == "ru" {
        match &refusal.kind {
            Kind::Auth => "Неверное имя пользователя или пароль".to_owned(),
            Kind::Access => format!("Недостаточно прав: {object}"),
            Kind::Exists => format!("{object} '{value}' уже существует"),
            Kind::Limit => format!("Превышено ограничение: {object}"),
            Kind::Missed => format!("{object} '{value}' не найден"),
            Kind::Value => format!("Неверное значение поля {object}: '{value}'"),
            Kind::Other(kind) => format!("Ошибка {kind}: {object} {value}"),
        }
    } else {
        match &refusal.kind {
            Kind::Auth => "Invalid username or password".to_owned(),
            Kind::Access => format!("Insufficient privileges: {object}"),
            Kind::Exists => format!("{object} '{value}' already exists"),
            Kind::Limit => format!("Limit exceeded: {object}"),
            Kind::Missed => format!("{object} '{value}' not found"),
            Kind::Value => format!("Field {object} has an invalid value: '{value}'"),
            Kind::Other(kind) => format!("Error {kind}: {object} {value}"),
        }
    }
}
