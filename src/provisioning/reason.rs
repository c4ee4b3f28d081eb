//! Every reason that a condition can carry, with its cause and its cure; the table in the README is made from it.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $cause:literal, $cure:literal;)*) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $cause] $name,)*
        }

        impl Reason {
            /// All reasons, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What has happened.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause,)* }
            }

            /// What to do.
            #[must_use]
            pub fn cure(self) -> &'static str {
                match self { $(Self::$name => $cure,)* }
            }
        }
    };
}

reasons! {
    Active: "The server is prepared and belongs to the client.", "Nothing.";
    Suspended: "The service is suspended, as the order asks: the server is disabled, its switch ports and its power are off.", "Nothing; set `spec.suspended: false` to resume it.";
    Suspending: "The service is being suspended.", "Nothing; see `status.progress`.";
    Resuming: "The service is being resumed.", "Nothing; see `status.progress`.";
    Allocating: "A server is being looked for and claimed.", "Nothing; see `status.waitingOn`.";
    Preparing: "The server is being prepared.", "Nothing; see `status.progress`.";
    Deleting: "The server is being taken back.", "Nothing; see `status.progress`.";
    GivingBack: "The server is given back while the order lives; `status.server.returning` says why.", "Nothing; another server is taken, or the order stalls with the reason.";
    SeveralRecipes: "The order names several recipes, and this handler can run only one, with the installation.", "Keep one of `spec.recipes`, or set `spec.dialect.runRecipe` of the handler to the call that your panel uses.";
    RecipeIncompatible: "The recipe and the template share no tag at the panel.", "Choose a recipe for this system, or correct the tags at the panel.";
    RecipeFailed: "A recipe failed.", "Correct the recipe at the panel, or take it out of `spec.recipes`; then annotate the order with `dci-operator.dev/reconcile-requested-at`.";
    Released: "The panel confirmed that the server is free.", "Nothing; the order goes by itself.";
    WaitingForCapacity: "No free server of this type (or no free address) is there, or older orders come first.", "Add servers or addresses at the panel; the order goes on by itself. Where a server is taken back and no parking address comes, a FailedOperation task is raised in the end.";
    LimitReached: "A limit of the handler keeps the order back.", "Wait, or raise the limit in `spec.limits` of the handler.";
    WaitingForPanel: "The panel is at work, or its next list is awaited.", "Nothing.";
    AnswerLost: "The answer to a change was lost; the panel is being looked at before anything is repeated.", "Nothing; see `status.inFlight`.";
    WaitingForTask: "A department has to act.", "Close the ManualTask named in `status.waitingOn` in the handler's namespace.";
    Retrying: "The last attempt failed; it is repeated at `status.nextRetryTime`.", "See `status.lastError`; annotate the order with `dci-operator.dev/reconcile-requested-at` to try at once.";
    HandlerNotFound: "The handler does not exist, or the order's namespace may not use it.", "Check `spec.handlerRef`, and `spec.allowedNamespaces` of the handler.";
    HandlerNotReady: "The handler, its panel or its IPManager is not ready.", "See the conditions of the handler.";
    NamespaceLabelsForbidden: "The handler selects namespaces by their labels, which the operator may not read.", "Watch all namespaces with the chart's `rbac.namespaceSelectors`, or set `spec.allowedNamespaces.from` to `All` or `Same`.";
    LicenseServerNotReady: "The licence server that the order's licences are at, or shall come from, cannot be used.", "See the message: set `spec.licenseServerRef` of the handler, or see the conditions of the licence server's handler.";
    UnknownProduct: "The licence server does not sell a product that the order asks for.", "Choose one of the products in the message, or add it to `spec.licenses.products` of the licence server's handler.";
    SeveralLicensesFound: "More than one licence carries the same remote id of this order.", "Clear the remote id of all but one at the licence server.";
    NotOurLicense: "A licence of the order does not carry its remote id any more; it is not touched.", "Put the remote id back at the licence server, or remove the licence from `spec.licenses`.";
    LicenseGone: "A licence of the order is not at the licence server any more; no other is bought by itself.", "Put it back, or remove it from `spec.licenses` and add it again.";
    HandlerSuspended: "The handler is suspended: nothing is changed at the panel.", "Set `spec.suspend: false` on the handler.";
    CredentialsMissing: "A Secret that is needed is not there, or lacks a key.", "Create the Secret with the key named in the message; it is picked up by itself.";
    NotSupportedYet: "The object uses a field that this version does not act upon.", "Remove the field named in the message, or use a later version.";
    InvalidSpec: "The object says something that it must not.", "Correct the field named in the message.";
    CustomConfigurationRefused: "The handler sells server types only, and the order composes a configuration of its own.", "Set `spec.configuration.serverType`, or `spec.byServerType: false` of the handler.";
    FixedFieldChanged: "A field that is fixed once a server is allocated was changed.", "Put it back, or create another order.";
    ClientIsAdministrator: "The client's name is that of a panel administrator.", "Choose another `spec.client.username`.";
    ClientNameTaken: "The client's name belongs to another namespace at this panel.", "Choose another `spec.client.username`.";
    SecretConflict: "A Secret with a name that the operator needs exists and is not this order's.", "Rename or remove that Secret.";
    UnknownTemplate: "The panel does not offer this template for the server.", "Choose one of the templates in the message, or install it at the panel.";
    UnknownRecipe: "The panel does not offer this recipe for the server.", "Choose one of the recipes in the message, or install it at the panel.";
    PreviousServerFound: "A server carries the marker of an earlier order of the same name, or what a panel left of this one's, or an address carries the note of this one although no server with its marker is found.", "Release that server by hand, or restore the order with its annotation `dci-operator.dev/order-id`; of an address, do what the message says.";
    OrderIdElsewhere: "A server carries this order's id under another cluster id, namespace or name: the order was restored somewhere else, or copied.", "Start the operator with that `--cluster-id` where this cluster takes the other's place, or restore the order under its old namespace and name; to order another server, remove its annotation `dci-operator.dev/order-id`.";
    SeveralServersFound: "More than one server carries this order's marker.", "Release all but one by hand and take the marker out of their notes.";
    MarkerTruncated: "The panel did not store the marker as it was written; the change was undone.", "Make the notes field of the panel longer, and have it keep what is written there as it is; then change or annotate the order.";
    NotOurServer: "The server does not carry this order's marker any more; it is not touched.", "Put the marker back into the server's notes, or delete the order and have the provider abandon it.";
    OwnerChanged: "The server's owner was changed by hand; it is not touched.", "Put the owner back at the panel, or delete the order and have the provider abandon it.";
    ServerGone: "The panel does not list the server any more.", "Put the server back at the panel, or delete the order.";
    MainAddressNotReplaced: "The panel did not replace the main address; the new one was given back.", "Set `spec.dialect.replaceMainAddress` of the handler to the call that your panel uses, or `ipManagement.disableIPChange: true`.";
    DialectMissing: "The handler does not say how this call is made on its panel.", "Set the entry of `spec.dialect` that the message names.";
    OperationFailed: "A step failed too often; a department looks after it.", "Close the FailedOperation task: Retry, Done or Cancelled.";
    TaskCancelled: "A department closed the order's task as Cancelled.", "Delete the order, or annotate it to try again.";
    DeletionPolicyForbidden: "The handler does not allow the order's `deletionPolicy`; nothing is touched.", "Set another `spec.deletionPolicy`, or add this one to `spec.allowedDeletionPolicies` of the handler.";
    AdoptionForbidden: "The handler does not let orders take over servers.", "Set `spec.adoption: Allowed` on the handler, or create the order without `spec.adopt`.";
    AdoptionRefused: "The server that `spec.adopt` names is not as the order says; nothing was written at the panel.", "Correct what the message names, in the order or at the panel; it is looked at again by itself.";
    IpmiError: "IPMI failed while the server was being stopped.", "With `ipmiErrorPolicy: Ignore` nothing; with `CreateTask` close the StopServer task.";
    DeletionProtected: "The order is being deleted, but `spec.deletionProtection` is true: nothing is powered off or released.", "Set it to false: the server is then released (`deletionPolicy: Release`) or left as it is (`deletionPolicy: Orphan`).";
    ReinstallPending: "Template or recipes were changed; they take effect at the next reinstall. Recipes that are added do not wait for it where the handler has `dialect.runRecipe`.", "Nothing, or put them back.";
    ReinstallProtected: "`spec.reinstall` has a new value, and `spec.deletionProtection` refuses what destroys data.", "Set `deletionProtection: false` to have the system installed again, or put `spec.reinstall` back; the order goes on by itself.";
    Done: "The step is done.", "Nothing.";
    Pending: "The step is not done yet.", "Nothing.";
    CRDOutdated: "The installed CustomResourceDefinitions are older than the operator: the server dropped fields.", "Apply the `crds/` of the operator's version.";
    InvalidObject: "The object cannot be read by this version.", "Correct the field named in the message.";
    Reachable: "The panel answers, the credentials are an administrator's.", "Nothing.";
    Unreachable: "The panel does not answer.", "Check `spec.connection.url` and the network.";
    CertificateRefused: "The panel's certificate is not trusted.", "Set `spec.connection.tls.caBundle` or `pinnedSHA256`.";
    AddressDenied: "The panel's address, or what its name resolves to, is in a network that the operator connects to nothing in.", "Correct `spec.connection.url` or the name's entry in DNS; or take the network out of the operator's `--denied-networks` (chart: `deniedNetworks`).";
    LoginRefused: "The panel refuses the credentials.", "Correct the Secret of `spec.connection.credentialsSecretRef`; it is picked up by itself.";
    NotAdministrator: "The panel user is not an administrator, which the integration needs.", "Give the user the level of an administrator.";
    PanelError: "The panel answers, but not as this product does.", "Check `spec.module` and `spec.connection.url`; see the message.";
    PanelChanged: "The address of the panel was changed while orders use the handler, or its IPManager, or the address or the user of that, to one that does not know the orders' addresses; or `spec.ipManagement.allocateBy`, while orders have servers.", "Put back what was there before; for new orders create another handler.";
    IPManagerNotFound: "The IPManager does not exist in the handler's namespace.", "Create it, or correct `spec.ipManagement.ipManagerRef`.";
    IPManagerNotReady: "The IPManager is not ready.", "See its conditions.";
    InUse: "The object is being deleted, but orders or handlers still need it.", "Delete them first; the message says how many.";
    Open: "The task waits for its department.", "Set `spec.resolution`.";
    Closed: "The department closed the task.", "Nothing.";
    ResolutionRefused: "This type of task is not closed with that word.", "See the message; the operator raises a new task where it is needed.";
    Superseded: "The operator closed the task: nobody needs it any more, or another department is asked.", "Nothing; the order's status names the task that is open, if one is.";
    DeadlinePassed: "The task was not closed by its deadline.", "Close it; the department named in `status.escalatedTo` may do so as well.";
    NotMade: "The task was not made by the operator; it is not acted upon.", "Delete it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_and_every_one_has_cause_and_cure() {
        for reason in Reason::ALL {
            assert!(reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()), "{reason:?}");
            assert!(reason.cause().ends_with('.') && reason.cure().ends_with('.'), "{reason:?}");
        }
    }
}
