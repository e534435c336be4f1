//! A service that needs a secret.

use super::Container;

/// A service with a user of its own that reads a secret when it starts, and keeps what it read
/// where a test finds it.
pub struct Consumer {
    name: &'static str,
}

impl Consumer {
    /// One that opens the file; wanted by multi-user.target. `id` is its user's.
    pub fn of_file(container: &Container, name: &'static str, id: u32, secret: &str) -> Self {
        Self::install(container, name, id, "", secret)
    }

    /// One that gets it from systemd, with `LoadCredential=`.
    pub fn of_credential(container: &Container, name: &'static str, id: u32, secret: &str) -> Self {
        let load = format!("LoadCredential=secret:{secret}\n");
        Self::install(container, name, id, &load, "${CREDENTIALS_DIRECTORY}/secret")
    }

    /// One that the machine's configuration has, by [`Consumer::declaration`].
    pub fn declared(container: &Container, name: &'static str, id: u32) -> Self {
        container.user(name, id);
        Self { name }
    }

    /// Its unit, as a part of a NixOS configuration; it opens the file.
    pub fn declaration(&self, secret: &str) -> String {
        let name = self.name;
        format!(
            "systemd.services.{name} = {{
                wantedBy = [ \"multi-user.target\" ];
                serviceConfig = {{
                    Type = \"oneshot\";
                    RemainAfterExit = true;
                    User = \"{name}\";
                    RuntimeDirectory = \"{name}\";
                    RuntimeDirectoryMode = \"0700\";
                    ExecStart = \"/bin/cp {secret} /run/{name}/read\";
                }};
            }};"
        )
    }

    fn install(
        container: &Container,
        name: &'static str,
        id: u32,
        service: &str,
        secret: &str,
    ) -> Self {
        container.user(name, id);
        let unit = format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nUser={name}\n{service}\
             RuntimeDirectory={name}\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes\n\
             ExecStart=cp {secret} /run/{name}/read\n",
        );
        container.write(&format!("/etc/systemd/system/{name}.service"), 0o644, unit);
        container.wanted_by(&format!("{name}.service"), "multi-user.target");
        Self { name }
    }

    pub fn unit(&self) -> String {
        format!("{}.service", self.name)
    }

    /// How often it was started in this boot. What is still to come of a restart is waited for.
    #[track_caller]
    pub fn starts(&self, container: &Container) -> usize {
        let unit = self.unit();
        // In the middle of a restart it is inactive, too, and has a job.
        if container.state(&unit) != "inactive" || !container.show(&unit, "Job").is_empty() {
            container.systemctl(&["start", &unit]).exits(0);
        }
        container.journal(&unit).matches(&format!("Starting {unit}")).count()
    }

    /// What it read.
    #[track_caller]
    pub fn read(&self, container: &Container) -> Vec<u8> {
        container.read(&format!("/run/{}/read", self.name))
    }
}
