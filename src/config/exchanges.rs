//! `[[exchanges]]`: short-lived tokens, obtained with a proof of Weir's identity.

use super::key::section;
use super::secret::SecretRef;
use super::url::UpstreamUrl;
use crate::label::names;

section! {
    /// Where a credential that lives short comes from: `credential = "exchange:NAME"` names one.
    Exchange {
        /// Its name in credentials, metrics and logs.
        name: String = required("openai"),
        /// The token endpoint.
        url: UpstreamUrl = required("https://auth.openai.com/oauth/token"),
        /// How a token is asked for: "token-exchange" (RFC 8693, as OpenAI's workload identity), or
        /// "client-credentials" with an assertion (RFC 7523, as Microsoft Entra's federated
        /// credentials).
        grant: Grant = default("token-exchange"),
        /// What proves who Weir is: a JWT of the platform, such as a projected token of Kubernetes.
        /// It is read anew for each token.
        subject_token: SecretRef = required("file:/var/run/secrets/tokens/weir"),
        /// What kind of token that is; "client-credentials" takes a JWT only.
        subject_token_type: SubjectType = default("jwt"),
        /// OpenAI's workload identity provider. The request is JSON then, else a form.
        identity_provider_id: Option<String> = unset("idp_1234"),
        /// The service account of OpenAI's whose token it is.
        service_account_id: Option<String> = unset("sa_1234"),
        /// The client: the application's id with Entra.
        client_id: Option<String> = unset("11111111-2222-3333-4444-555555555555"),
        /// Whom the token is for, where the endpoint asks for it.
        audience: Option<String> = unset("https://api.openai.com/v1"),
        /// What the token is for.
        scope: Option<String> = unset("https://cognitiveservices.azure.com/.default"),
    }
}

names! {
    /// How a token is asked for.
    Grant {
        /// RFC 8693.
        TokenExchange = "token-exchange",
        /// RFC 6749, 4.4, with a client assertion (RFC 7523, 2.2).
        ClientCredentials = "client-credentials",
    }
}

names! {
    /// What the subject token is.
    SubjectType {
        /// A JWT.
        Jwt = "jwt",
        /// An ID token of `OpenID` Connect.
        IdToken = "id_token",
    }
}

impl Exchange {
    /// The fields of a request beside the subject token, as RFC 8693, RFC 7523 and OpenAI name
    /// them.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        let mut fields = match (self.grant, self.subject_token_type) {
            (Grant::TokenExchange, subject) => vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                (
                    "subject_token_type",
                    match subject {
                        SubjectType::Jwt => "urn:ietf:params:oauth:token-type:jwt",
                        SubjectType::IdToken => "urn:ietf:params:oauth:token-type:id_token",
                    },
                ),
            ],
            (Grant::ClientCredentials, _) => vec![
                ("grant_type", "client_credentials"),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ],
        };
        let optional = [
            ("identity_provider_id", &self.identity_provider_id),
            ("service_account_id", &self.service_account_id),
            ("client_id", &self.client_id),
            ("audience", &self.audience),
            ("scope", &self.scope),
        ];
        fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
        fields
    }

    /// The field that the subject token is sent in.
    pub fn subject_field(&self) -> &'static str {
        match self.grant {
            Grant::TokenExchange => "subject_token",
            Grant::ClientCredentials => "client_assertion",
        }
    }
}
