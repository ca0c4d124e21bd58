//! Priority classes.

use muster_api::http::{PriorityClass, PriorityClassList, PriorityClassSettings};
use reqwest::Method;

use crate::gateways::Target;
use crate::transport::Request;
use crate::{Client, Error};

/// Where they live.
const PATH: &str = "priority-classes";

impl Client {
    /// All priority classes, by name.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn priority_classes(&self) -> Result<Vec<PriorityClass>, Error> {
        Ok(self.get::<PriorityClassList>(&[PATH], &[]).await?.priority_classes)
    }

    /// A priority class.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn priority_class(&self, name: &str) -> Result<PriorityClass, Error> {
        self.get(&[PATH, name], &[]).await
    }

    /// Creates the priority class, or gives it these settings.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn put_priority_class(
        &self,
        name: &str,
        settings: &PriorityClassSettings,
    ) -> Result<PriorityClass, Error> {
        self.with_json(Method::PUT, &[PATH, name], settings).await
    }

    /// Takes away what was set for a priority class.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn delete_priority_class(&self, name: &str) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, Target::new(&[PATH, name], &[]));
        self.open(&request).await.map(drop)
    }
}
