//! x
use tiercel_e2e::*;
fn main() {
    let rt = tokio::runtime::Runtime::new().unwrap();
    rt.block_on(async {
        let t = std::time::Instant::now();
        let tools = tools::find_or_build(|l| println!("{l}")).unwrap();
        let c = controlplane::Cluster::start(
            &tools,
            controlplane::Options {
                metrics_server: true,
                audit: true,
                ..Default::default()
            },
        )
        .await
        .unwrap_or_else(|e| panic!("{e}"));
        println!("up {:?} {:?}", t.elapsed(), c.folder());
        println!("{}", c.kubectl().run(&["get", "ns,apiservice"]).await.unwrap());
        if std::env::var_os("STAY").is_some() {
            tokio::time::sleep(std::time::Duration::from_secs(
                std::env::var("STAY").unwrap().parse().unwrap(),
            ))
            .await;
        }
        let t = std::time::Instant::now();
        c.stop();
        println!("down {:?}", t.elapsed());
    });
}
