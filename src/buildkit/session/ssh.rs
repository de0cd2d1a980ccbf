//! SSH agents for the steps that mount them (`moby.sshforward.v1.SSH`): the bytes of an agent's socket, tunnelled.
//!
//! A step may list keys and have them sign; all else that an agent does (add and remove keys, lock, extensions) is
//! answered with a failure here, as BuildKit's own client does it (`session/sshforward/sshprovider`, `readOnlyAgent`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The metadata that names the agent (`sshforward.KeySSHID`).
const ID: &str = "buildkit.ssh.id";
/// The agent that a mount without an id means.
const DEFAULT: &str = "default";

/// Messages of the agent's protocol (draft-ietf-sshm-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// The longest message that OpenSSH's agent takes, in bytes.
const MAX_MESSAGE: usize = 256 << 10;

type Answer = Result<BytesMessage, Status>;

/// The agents of one container: sockets by id. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SshService {
    sockets: Arc<HashMap<String, PathBuf>>,
}

impl SshService {
    pub(super) const METHODS: [&str; 2] = [
        "/moby.sshforward.v1.SSH/CheckAgent",
        "/moby.sshforward.v1.SSH/ForwardAgent",
    ];

    pub(crate) fn new(sockets: HashMap<String, PathBuf>) -> Self {
        Self {
            sockets: Arc::new(sockets),
        }
    }

    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        let found = self.sockets.get(id);
        found.ok_or_else(|| Status::not_found(format!("no ssh agent `{id}` is given")))
    }
}

#[tonic::async_trait]
impl Ssh for SshService {
    type ForwardAgentStream = ReceiverStream<Answer>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID).and_then(|id| id.to_str().ok());
        let socket = self.socket(id.unwrap_or_default())?;
        let agent = UnixStream::connect(socket).await.map_err(|error| {
            Status::unavailable(format!("the ssh agent does not answer: {error}"))
        })?;
        let (answers, receiver) = mpsc::channel(4);
        tokio::spawn(serve(agent, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Until the step or the agent hangs up.
async fn serve(
    mut agent: UnixStream,
    mut requests: Streaming<BytesMessage>,
    answers: mpsc::Sender<Answer>,
) {
    let mut unread = Vec::new();
    while let Ok(Some(message)) = requests.message().await {
        unread.extend_from_slice(&message.data);
        loop {
            let answer = match next(&mut unread) {
                Ok(None) => break,
                Ok(Some(request)) => ask(&mut agent, &request).await,
                Err(error) => Err(error),
            };
            let answer = answer
                .map(|data| BytesMessage { data })
                .map_err(|error| Status::unavailable(format!("the ssh agent failed: {error}")));
            let over = answer.is_err();
            if answers.send(answer).await.is_err() || over {
                return;
            }
        }
    }
}

/// Takes one whole message, its length in front, out of what was received.
fn next(unread: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    let Some(length) = unread.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(std::io::Error::other("a request of no agent's length"));
    }
    if unread.len() < 4 + length {
        return Ok(None);
    }
    Ok(Some(unread.drain(..4 + length).collect()))
}

async fn ask(agent: &mut UnixStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    if !matches!(request.get(4), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST))) {
        return Ok(vec![0, 0, 0, 1, FAILURE]);
    }
    agent.write_all(request).await?;
    let length = agent.read_u32().await?;
    if length as usize > MAX_MESSAGE {
        return Err(std::io::Error::other("an answer of no agent's length"));
    }
    let mut answer = length.to_be_bytes().to_vec();
    answer.resize(4 + length as usize, 0);
    agent.read_exact(&mut answer[4..]).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_whole() {
        let mut unread = vec![0, 0, 0, 1, 11, 0, 0];
        assert_eq!(next(&mut unread).unwrap(), Some(vec![0, 0, 0, 1, 11]));
        assert_eq!(next(&mut unread).unwrap(), None);
        unread.extend([0, 2, 13]);
        assert_eq!(next(&mut unread).unwrap(), None);
        unread.push(7);
        assert_eq!(next(&mut unread).unwrap(), Some(vec![0, 0, 0, 2, 13, 7]));
        assert!(next(&mut vec![0, 0, 0, 0]).is_err());
        assert!(next(&mut vec![0xff, 0, 0, 0, 0]).is_err());
    }

    #[tokio::test]
    async fn an_agent_lists_and_signs_and_does_nothing_else() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let agent = tokio::spawn(async move {
            let mut request = [0; 5];
            far.read_exact(&mut request).await.unwrap();
            far.write_all(&[0, 0, 0, 2, 12, 9]).await.unwrap();
            request
        });
        // Adding an identity (17) never comes to the agent.
        let refused = ask(&mut near, &[0, 0, 0, 1, 17]).await.unwrap();
        assert_eq!(refused, [0, 0, 0, 1, FAILURE]);
        let listed = ask(&mut near, &[0, 0, 0, 1, REQUEST_IDENTITIES]).await;
        assert_eq!(listed.unwrap(), [0, 0, 0, 2, 12, 9]);
        assert_eq!(agent.await.unwrap()[4], REQUEST_IDENTITIES);
    }
}
